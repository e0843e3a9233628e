"""Where a cross-encoder that others trained comes from: a folder or the hub, and its evidence.

A bundle keeps the evidence, so that the model can be found again, and no other in its place.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ranker.errors import ArtifactError, ExportError, first_line
from ranker.files import sha256
from ranker.model import hub
from ranker.model.base import Base

__all__ = [
    "UNKNOWN",
    "base_evidence",
    "changed_files",
    "check_base",
    "check_files",
    "evidence",
    "kept",
    "locate",
    "origin_card",
    "short_hash",
]

UNKNOWN = "unknown"
_BASE_FILES = ("*.safetensors", "*.bin", "config.json", "tokenizer.json")


def locate(source: str | Path, revision: str | None) -> tuple[str, Path]:
    """The model's name, and the folder with its files; a hub id's are brought here.

    Raises:
        ExportError: there is no such folder, and the hub does not have it or cannot be reached.
    """
    path = Path(source)
    if path.is_dir():
        return hub.hub_id(path) or path.resolve().name, path
    name = path.as_posix()
    try:
        return name, hub.fetch(name, revision)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise ExportError(
            f"{name}: expected a folder, or a Hugging Face id that can be reached; "
            f"{first_line(error)}"
        ) from error


def kept(source: str, revision: str | None) -> Path:
    """The folder with a model's files; a hub id's must be in the user's cache.

    Raises:
        ArtifactError: it is gone.
    """
    if Path(source).is_dir():
        return Path(source)
    lost = "the cross-encoder that the bundle was exported from is gone"
    if not hub.HUB_ID.fullmatch(source):
        raise ArtifactError(f"{lost}: there is no folder {source}")
    try:
        return hub.cached(source, revision)
    except Exception as error:  # as above
        raise ArtifactError(
            f"{lost}: revision {revision or 'main'} of {source} is not in the Hugging Face cache"
        ) from error


def evidence(name: str, base: Base) -> dict[str, Any]:
    """Name, source, revision, licence and hashes of the files that the model is read from.

    The source is the folder, or the id whose revision lies in the hub's cache.
    """
    found = base_evidence(base)
    source = str(Path(base.source).absolute()) if found["folder"] else name
    files = found["files"]
    read = {file: files[file] for file in sorted(files) if _is_read(file, files)}
    return found | {"name": name, "source": source, "files": read}


def _is_read(file: str, files: Collection[str]) -> bool:
    """Whether transformers reads this one: old weights only where there are no safetensors."""
    if not file.endswith(".bin"):
        return True
    return fnmatch(file, hub.OLD_WEIGHTS) and not any(f.endswith(".safetensors") for f in files)


def check_files(folder: Path, origin: Mapping[str, Any]) -> None:
    """Compare a folder's files with those that a bundle was exported from.

    Raises:
        ArtifactError: a file is missing, new or different.
    """
    for name, found in changed_files(folder, origin["files"]):
        raise ArtifactError(
            f"{folder} is not the cross-encoder that the bundle was exported from: {name} has "
            f"the sha256 {short_hash(found)}, expected {short_hash(origin['files'].get(name))}"
        )


def origin_card(origin: Mapping[str, Any], name: str) -> str:
    """The README.md of a bundle whose model others trained: where from, and what is not known.

    Args:
        origin: as `open_cross_encoder` records it.
        name: of the bundle.
    """
    fields = {"license": origin["license"], "pipeline_tag": "text-ranking"}
    if not origin["folder"]:
        fields["base_model"] = origin["name"]
    files = [f"- `{file}`: `{digest}`" for file, digest in sorted(origin["files"].items())]
    revision = f", revision `{origin['revision']}`" if origin["revision"] else ""
    parts = [
        "\n".join(["---", *(f"{key}: {value}" for key, value in fields.items()), "---"]),
        f"# {name}",
        f"The cross-encoder `{origin['name']}`{revision} as ONNX for Vespa, unchanged: others "
        "trained it. Its output is the raw logit; sentence-transformers puts "
        f"`{origin['activation']}` on it.",
        "**Not known to be better than BM25** on your queries: measure it with `ranker evaluate`. "
        "Nobody learned a weight for the blend, so it is 1; `ranker train` learns it.",
        *(f"**Caution**: {caution}." for caution in origin["cautions"]),
        "## Files it was made from (SHA-256)",
        "\n".join(files),
    ]
    return "\n\n".join(parts) + "\n"


def base_evidence(base: Base) -> dict[str, Any]:
    """Name, revision, file hashes and licence of a base model, as far as they are known."""
    folder = Path(base.source)
    of_hub = hub.hub_id(folder)
    packaged = base.name == hub.DEFAULT_BASE
    id_ = f"sentence-transformers/{hub.DEFAULT_BASE}" if packaged else of_hub
    files = sorted(file for pattern in _BASE_FILES for file in folder.glob(pattern))
    return {
        "name": id_ or folder.resolve().name,
        "folder": id_ is None,
        "revision": folder.name if of_hub else None,
        "license": _license(folder / "README.md"),
        "files": {file.name: sha256(file) for file in files},
    }


def check_base(expected: dict[str, Any], base: Base) -> None:
    """Compare a base model's files with those that a training began with.

    Raises:
        ArtifactError: a file differs or is new; the message names it.
    """
    folder, files = Path(base.source), expected["files"]
    for name, found in changed_files(folder, files):
        raise ArtifactError(
            f"{folder / name} of the base model is not what the training began with: sha256 "
            f"{short_hash(found)}, expected {short_hash(files.get(name))}"
        )


def changed_files(folder: Path, files: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Files of a model that are missing, new or different, with their hashes; small ones first.

    Weights that came since are read in place of older ones, so they make another model, too.

    Args:
        folder: where it lies.
        files: SHA-256 by name, as in `base_evidence`.
    """
    weights = {file.name for file in folder.glob("*.safetensors")}
    for name in sorted(files.keys() | weights, key=_small_first):
        path = folder / name
        found = sha256(path) if path.is_file() else None
        if found != files.get(name):
            yield name, found


def _small_first(name: str) -> tuple[bool, str]:
    return not name.endswith(".json"), name


def _license(readme: Path) -> str:
    """The licence that a model card's front matter names."""
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    front = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    named = (
        re.search(r"^license: *['\"]?([\w.-]+)", front[1], flags=re.MULTILINE) if front else None
    )
    return named[1] if named else UNKNOWN


def short_hash(digest: str | None) -> str:
    """A SHA-256 as messages show it; None is that of a file that is not there."""
    return digest[:13] if digest else "none (no such file)"
