"""Build the "stdlib" demonstration collection: the docstrings of Python's own standard library.

Run it with the Python whose library is to be searched::

    python pipelines/stdlib_corpus.py --out data/stdlib

It writes a BEIR folder: `corpus.jsonl` is read from the running Python (about 5,000 modules,
classes, functions and methods, each docstring once), `queries.jsonl` and `qrels/*.tsv` are copied
from `pipelines/stdlib/`. How those were written and judged is told in `docs/judging.md`.

Needs nothing outside the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import inspect
import io
import json
import os
import pkgutil
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

JUDGED = Path(__file__).resolve().parent / "stdlib"
QRELS = ("train", "test")

# Not imported: they open a window or a browser, print, touch the terminal, or are not libraries.
WITH_EFFECTS = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "readline"}
WITH_EFFECTS |= {"rlcompleter", "test", "xxlimited", "xxsubtype"}
# Gone from later Pythons; left out everywhere, so that all versions give nearly the same corpus.
REMOVED = {"aifc", "asynchat", "asyncore", "audioop", "binhex", "cgi", "cgitb", "chunk", "crypt"}
REMOVED |= {"distutils", "imghdr", "imp", "lib2to3", "mailcap", "msilib", "nis", "nntplib"}
REMOVED |= {"ossaudiodev", "pipes", "smtpd", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"}
# Other names for what is found elsewhere (`os`, `os.path`, `re`), or data, not an interface.
DUPLICATES = {"posix", "nt", "posixpath", "ntpath", "genericpath", "nturl2path", "pydoc_data"}
DUPLICATES |= {"sre_compile", "sre_constants", "sre_parse", "ensurepip", "opcode"}
SKIPPED_MODULES = WITH_EFFECTS | REMOVED | DUPLICATES
SKIPPED_SUBMODULES = {"test", "tests"}
PACKAGES_NOT_WALKED = {"encodings"}  # a hundred codec tables, one class each
EXTRA_MODULES = ("collections.abc", "os.path")  # aliases: no package walk is sure to find them


class CollectionError(Exception):
    """The judged collection cannot be built; the message says why."""


@dataclass(frozen=True, order=True)
class Candidate:
    """One public name under which a docstring was found; the smallest of equals is kept.

    `alias` is true where the object calls itself otherwise (`IOError` is an `OSError`);
    `inherited` counts the classes between the named one and the one that defines the member;
    `depth` the dots of the module (builtins: 0), so that `asyncio.wait_for` comes before
    `asyncio.tasks.wait_for`; `foreign` is true where the module only re-exports the object.
    """

    alias: bool
    inherited: int
    depth: int
    foreign: bool
    length: int
    name: str
    text: str


def main(argv: Sequence[str] | None = None) -> int:
    """Write the collection; return 0, or 1 after one line on stderr."""
    args = parse_args(argv)
    try:
        documents = build_corpus()
        check_judged(documents, args.judged)
        write_collection(documents, args.judged, args.out)
    except (CollectionError, OSError) as error:
        sys.stderr.write(f"stdlib_corpus: {error}\n")
        return 1
    version = ".".join(map(str, sys.version_info[:3]))
    sys.stdout.write(f"{args.out}: {len(documents)} documents of Python {version}\n")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the BEIR folder to write")
    parser.add_argument(
        "--judged", type=Path, default=JUDGED, help="folder of queries.jsonl and qrels/"
    )
    return parser.parse_args(argv)


def build_corpus() -> dict[str, str]:
    """Return name -> docstring of the running Python's library, sorted by name."""
    best: dict[str, Candidate] = {}
    for module_name in module_names():
        module = import_quietly(module_name)
        if module is None:
            continue
        for candidate in candidates(module, module_name):
            best[candidate.text] = min(best.get(candidate.text, candidate), candidate)
    return {c.name: c.text for c in sorted(best.values(), key=lambda c: c.name)}


def module_names() -> Iterator[str]:
    """Yield the names of the public modules, packages before what is in them."""
    for top in sorted(sys.stdlib_module_names):
        if not top.startswith("_") and top not in SKIPPED_MODULES:
            yield top
            yield from submodule_names(top)
    yield from EXTRA_MODULES


def submodule_names(package: str) -> Iterator[str]:
    """Yield the names of the public modules inside `package`, at any depth."""
    path = getattr(import_quietly(package), "__path__", None)
    if path is None or package in PACKAGES_NOT_WALKED:
        return
    for info in sorted(pkgutil.iter_modules(path), key=lambda info: info.name):
        if not info.name.startswith("_") and info.name not in SKIPPED_SUBMODULES:
            yield f"{package}.{info.name}"
            yield from submodule_names(f"{package}.{info.name}")


def import_quietly(name: str) -> ModuleType | None:
    """Import a module without a word; None where this platform or build does not have it."""
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def candidates(module: ModuleType, module_name: str) -> Iterator[Candidate]:
    """Yield the module's docstring and those of its public classes, methods and functions."""
    depth = 0 if module_name == "builtins" else module_name.count(".") + 1
    if text := clean(module.__doc__):
        yield Candidate(False, 0, depth, False, len(module_name), module_name, text)
    for name, member in public_members(module, module_name):
        alias = getattr(member, "__name__", name) != name
        foreign = getattr(member, "__module__", None) != module_name
        for suffix, text, inherited in documented(member):
            full = f"{module_name}.{name}{suffix}"
            yield Candidate(alias, inherited, depth, foreign, len(full), full, text)


def public_members(module: ModuleType, module_name: str) -> Iterator[tuple[str, object]]:
    """Yield the public classes and functions: `__all__` where there is one, else its own.

    A package also has those of its public modules that it forgot to list (`asyncio.TaskGroup`).
    """
    listed = getattr(module, "__all__", None)
    home = None if listed is None else f"{module_name}."
    for name in sorted({*dir(module), *(listed or ())}):
        member = None if name.startswith("_") else get_quietly(module, name)
        if not (inspect.isclass(member) or inspect.isroutine(member)):
            continue
        if name in (listed or ()) or defined_in(member, module_name, home):
            yield name, member


def get_quietly(module: ModuleType, name: str) -> object:
    """Return an attribute, or None where it is missing or cannot be loaded on this platform."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(module, name)
        except (AttributeError, ImportError):
            return None


def defined_in(member: object, module_name: str, home: str | None) -> bool:
    """Tell whether a member belongs to the module's family (`_socket` is of `socket`).

    With `home` (`asyncio.`), whether it is defined in a public module below that.
    """
    if module_name == "builtins":
        return True  # `open` says it is of `io`
    defined = getattr(member, "__module__", None) or module_name
    if home is not None:
        return defined.startswith(home) and "._" not in defined
    return defined.partition(".")[0].lstrip("_") == module_name.partition(".")[0]


def documented(member: object) -> Iterator[tuple[str, str, int]]:
    """Yield (name suffix, docstring, inherited) of a function, or of a class and its members."""
    if not inspect.isclass(member):
        if text := own_doc(member):
            yield "", text, 0
        return
    if text := clean(member.__doc__):  # a class does not inherit it
        yield "", text, 0
    seen: set[str] = set()
    for distance, base in enumerate(member.__mro__[:-1]):
        for name, attribute in sorted(vars(base).items()):
            if name.startswith("_") or name in seen or inspect.isclass(attribute):
                continue
            seen.add(name)
            if text := own_doc(attribute):
                yield f".{name}", text, distance


def own_doc(attribute: object) -> str:
    """Return the docstring of a function, method or property; "" where it has none of its own."""
    if isinstance(attribute, (classmethod, staticmethod)):
        attribute = attribute.__func__
    if not (inspect.isroutine(attribute) or inspect.isdatadescriptor(attribute)):
        return ""
    doc = getattr(attribute, "__doc__", None)
    return "" if doc == type(attribute).__doc__ else clean(doc)


def clean(doc: object) -> str:
    """Return a docstring without its indentation; "" for anything that is not worth a document."""
    text = inspect.cleandoc(doc).strip() if isinstance(doc, str) else ""
    return "" if text.startswith("Alias for field number") else text


def check_judged(documents: dict[str, str], judged: Path) -> None:
    """Raise CollectionError, naming them, if judged documents are missing from the corpus."""
    ids = {row["corpus-id"] for split in QRELS for row in read_qrels(judged, split)}
    missing = sorted(ids - documents.keys())
    if missing:
        raise CollectionError(
            f"{len(missing)} of {len(ids)} judged documents are not in the {len(documents)}"
            f" docstrings of this Python {sys.version_info[0]}.{sys.version_info[1]}"
            f" (expected 3.11 or newer, run without -OO): {', '.join(missing)}"
        )


def read_qrels(judged: Path, split: str) -> list[dict[str, str]]:
    """Read one qrels file as dictionaries of query-id, corpus-id and score."""
    with open(judged / "qrels" / f"{split}.tsv", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def write_collection(documents: dict[str, str], judged: Path, out: Path) -> None:
    """Write the BEIR folder next to `out`, then rename it to `out`, so it is whole or absent."""
    out = Path(os.path.abspath(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        (folder / "qrels").mkdir(parents=True)
        write_jsonl(folder / "corpus.jsonl", documents.items())
        shutil.copyfile(judged / "queries.jsonl", folder / "queries.jsonl")
        for split in QRELS:
            name = Path("qrels") / f"{split}.tsv"
            shutil.copyfile(judged / name, folder / name)
        replace_folder(folder, out, Path(scratch) / "replaced")


def write_jsonl(path: Path, documents: Iterable[tuple[str, str]]) -> None:
    """Write one JSON document per line, in the order given."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for name, text in documents:
            document = {"_id": name, "title": name, "text": text}
            file.write(json.dumps(document, ensure_ascii=False) + "\n")


def replace_folder(new: Path, out: Path, replaced: Path) -> None:
    """Put `new` in the place of `out`; an older collection there is moved to `replaced`.

    Raises CollectionError if `out` is something else: it is left alone.
    """
    if out.exists():
        if out.is_dir() and any(out.iterdir()) and not (out / "corpus.jsonl").is_file():
            raise CollectionError(f"{out} exists and is not a BEIR folder; choose another --out")
        os.rename(out, replaced)
    try:
        os.rename(new, out)
    except OSError:
        if replaced.exists():
            os.rename(replaced, out)
        raise


if __name__ == "__main__":
    sys.exit(main())
