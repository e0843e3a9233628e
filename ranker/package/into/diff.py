"""Changes as people read them: a unified diff, and files too large for one by their size."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ranker.package.into.tree import Change

__all__ = ["headline", "unified"]

LARGEST = 100_000
"""Bytes of a file that is shown line by line."""

LONGEST = 1000
"""Characters of a line in such a file; tokenizers are often a single line."""


def unified(changes: Iterable[Change]) -> str:
    """What `git apply` takes, but for lines that name large files and their sizes."""
    return "".join(line for change in changes for line in _lines(change))


def headline(change: Change) -> str:
    """What happens to a file, in a few words."""
    size = f", {_size(change.new)} bytes" if change.new is not None else ""
    return f"{_what(change)} {change.name}{size}"


def _size(content: bytes | Path | None) -> int:
    """Bytes."""
    if isinstance(content, Path):
        return content.stat().st_size
    return len(content or b"")


def _lines(change: Change) -> Iterator[str]:
    if change.name.endswith(".onnx") or _large(change.old) or _large(change.new):
        size = _size(change.old if change.new is None else change.new)
        yield f"{_what(change)} file {change.name}, {size} bytes\n"
        return
    yield f"diff --git a/{change.name} b/{change.name}\n"
    if change.old is None or change.new is None:
        yield f"{'new' if change.old is None else 'deleted'} file mode 100644\n"
    old, new = _text(change.old), _text(change.new)
    for line in difflib.unified_diff(
        old,
        new,
        f"a/{change.name}" if change.old is not None else "/dev/null",
        f"b/{change.name}" if change.new is not None else "/dev/null",
    ):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _what(change: Change) -> str:
    if change.old is None:
        return "new"
    return "deleted" if change.new is None else "changed"


def _large(content: bytes | Path | None) -> bool:
    if _size(content) > LARGEST:
        return True
    return any(len(line) > LONGEST or "\0" in line for line in _text(content))


def _text(content: bytes | Path | None) -> list[str]:
    r"""Lines with their ends; only `\n` ends a line, as in a diff."""
    if content is None:
        return []
    raw = content.read_bytes() if isinstance(content, Path) else content
    lines = raw.decode("utf-8", "surrogateescape").split("\n")
    return [*(f"{line}\n" for line in lines[:-1]), *filter(None, lines[-1:])]
