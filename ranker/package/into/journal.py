"""Changes of several files as one transaction: all of them are made, or none.

New contents and backups are prepared in a folder of the application, then a journal lists what
will be done; from then on each step can be undone, by this process or, if it was killed, by the
next one.  When the journal is gone, the changes are complete.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ranker.errors import ArtifactError
from ranker.files import exclusive_lock, link_or_copy, write_failure, write_json
from ranker.package.into.tree import FileChange, parents

__all__ = ["STAGE", "apply", "interrupted", "recover"]

STAGE = ".ranker-change"
JOURNAL = "journal.json"


def apply(root: Path, changes: Sequence[FileChange], *, empty: Sequence[str] = ()) -> None:
    """Make changes in a folder, in their order.

    Args:
        root: the folder.
        changes: the change of each file; folders are made as needed.
        empty: folders to remove if they are empty afterwards.

    Raises:
        ArtifactError: a file cannot be written, or is not what it was; nothing has changed.
    """
    with exclusive_lock(root, message=f"another ranker is changing {root}; wait for it"):
        _undo(root)
        for change in changes:
            _check(root, change)
        stage = root / STAGE
        try:
            stage.mkdir()
            journal = _prepare(root, stage, changes, empty)
            write_json(stage / JOURNAL, journal)
            for entry in journal["files"]:
                _move(root, stage, entry)
            for name in journal["removed"]:
                with contextlib.suppress(OSError):  # other files are in it
                    (root / name).rmdir()
            (stage / JOURNAL).unlink()
        except BaseException as error:
            _undo(root)
            reason = write_failure(error) if isinstance(error, Exception) else None
            if reason is None:
                raise
            raise ArtifactError(f"cannot change {root}: {reason}; nothing was changed") from error
        shutil.rmtree(stage)


def interrupted(root: Path) -> bool:
    """Return True if a process was killed amid its changes; `recover` undoes them."""
    return (root / STAGE).exists()


def recover(root: Path) -> None:
    """Undo the changes of a process that was killed amid them.

    Raises:
        ArtifactError: another process is changing the folder.
    """
    with exclusive_lock(root, message=f"another ranker is changing {root}; wait for it"):
        _undo(root)


def _check(root: Path, change: FileChange) -> None:
    """Refuse a file that is a link, or has changed since the change was worked out."""
    path = root / change.name
    if path.is_symlink():
        raise ArtifactError(f"{path} is a link; ranker changes files only: put the file there")
    now = path.read_bytes() if isinstance(change.old, bytes) and path.is_file() else None
    if path.exists() != (change.old is not None) or (now is not None and now != change.old):
        raise ArtifactError(f"{path} was changed by another program just now; run it again")


def _prepare(
    root: Path, stage: Path, changes: Sequence[FileChange], empty: Sequence[str]
) -> dict[str, Any]:
    """Write new contents and backups to the stage, and return the journal."""
    files = []
    for number, change in enumerate(changes):
        path, new, old = root / change.name, stage / f"{number}.new", stage / f"{number}.old"
        if isinstance(change.new, Path):
            link_or_copy(change.new, new)
        elif change.new is not None:
            new.write_bytes(change.new)
        if change.old is not None:
            link_or_copy(path, old)
            if change.new is not None:
                shutil.copymode(path, new)
        for written in (new, old):
            if written.exists():
                with written.open("rb") as file:
                    os.fsync(file.fileno())
        entry = {"name": change.name, "number": number}
        files.append({**entry, "old": change.old is not None, "new": change.new is not None})
    made = {
        folder
        for change in changes
        if change.new is not None
        for folder in parents(change.name)
        if not (root / folder).exists()
    }
    existing = [name for name in empty if (root / name).is_dir()]
    deepest_first = sorted(existing, key=lambda name: -name.count("/"))
    return {"files": files, "made": sorted(made, reverse=True), "removed": deepest_first}


def _move(root: Path, stage: Path, entry: dict[str, Any]) -> None:
    path = root / entry["name"]
    if entry["new"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        (stage / f"{entry['number']}.new").replace(path)
    else:
        path.unlink(missing_ok=True)


def _undo(root: Path) -> None:
    """Restore everything that the journal lists; without a journal nothing was changed yet."""
    stage = root / STAGE
    if (stage / JOURNAL).exists():
        journal = json.loads((stage / JOURNAL).read_text(encoding="utf-8"))
        for entry in reversed(journal["files"]):
            path, old = root / entry["name"], stage / f"{entry['number']}.old"
            if old.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                old.replace(path)
            elif not entry["old"]:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
        for name in journal["made"]:
            with contextlib.suppress(OSError):
                (root / name).rmdir()
        for name in journal["removed"]:
            (root / name).mkdir(parents=True, exist_ok=True)
        (stage / JOURNAL).unlink()
    shutil.rmtree(stage, ignore_errors=True)
