"""Changes of an application that are worked out and checked, but not made yet."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranker.artifacts.installation import Installation
from ranker.package.into import journal
from ranker.package.into.tree import FileChange

__all__ = ["Plan"]

LARGEST = 100_000
"""Bytes of the largest file that a diff shows line by line."""

LONGEST = 1000
"""Characters of the longest line in such a file; a tokenizer is often a single line."""


@dataclass(frozen=True)
class Plan:
    """What adding a model to an application changes, or removing one.

    Attributes:
        app: the application's folder.
        changes: the changed files; empty if the application is as it should be.
        emptied: folders to remove if nothing else is in them.
        installation: the added or removed model.
        notes: what a person should know of it.
    """

    app: Path
    changes: Sequence[FileChange]
    emptied: tuple[str, ...]
    installation: Installation
    notes: tuple[str, ...] = ()

    def diff(self) -> str:
        """Return a unified diff that `git apply` takes; large files are named with their size."""
        return "".join(line for change in self.changes for line in _diff(change))

    def summary(self) -> list[str]:
        """Return one line for each changed file."""
        return [
            f"{_verb(change)} {change.name}"
            + (f", {_size(change.new)} bytes" if change.new is not None else "")
            for change in self.changes
        ]

    def apply(self) -> None:
        """Make all changes, or none of them.

        Raises:
            ArtifactError: a file cannot be written, or was changed since; nothing has changed.
        """
        if self.changes:
            journal.apply(self.app, self.changes, empty=self.emptied)


def _diff(change: FileChange) -> Iterator[str]:
    old, new = _lines(change.old), _lines(change.new)
    if change.name.endswith(".onnx") or old is None or new is None:
        size = _size(change.old if change.new is None else change.new)
        yield f"{_verb(change)} file {change.name}, {size} bytes\n"
        return
    yield f"diff --git a/{change.name} b/{change.name}\n"
    if change.old is None or change.new is None:
        yield f"{'new' if change.old is None else 'deleted'} file mode 100644\n"
    before = f"a/{change.name}" if change.old is not None else "/dev/null"
    after = f"b/{change.name}" if change.new is not None else "/dev/null"
    for line in difflib.unified_diff(old, new, before, after):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _verb(change: FileChange) -> str:
    if change.old is None:
        return "new"
    return "deleted" if change.new is None else "changed"


def _size(content: bytes | Path | None) -> int:
    if isinstance(content, Path):
        return content.stat().st_size
    return len(content or b"")


def _lines(content: bytes | Path | None) -> list[str] | None:
    r"""Return lines with their ends, None if they are too large for a diff.

    Only `\n` ends a line, as in a diff.
    """
    if content is None:
        return []
    if _size(content) > LARGEST:
        return None
    raw = content.read_bytes() if isinstance(content, Path) else content
    lines = raw.decode("utf-8", "surrogateescape").split("\n")
    if any(len(line) > LONGEST or "\0" in line for line in lines):
        return None
    return [*(f"{line}\n" for line in lines[:-1]), *filter(None, lines[-1:])]
