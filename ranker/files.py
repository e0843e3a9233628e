"""Files that are whole or absent: atomic writes, folders published by a rename, hashes."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ranker.errors import ArtifactError

__all__ = ["new_folder", "read_json", "sha256", "write_json", "write_text"]


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values are equal files."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path, *, what: str) -> Any:
    """Read a JSON file; `what` names the artifact in the error.

    Raises:
        ArtifactError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path.parent} is not a {what}: {path.name} is missing") from error
    except NotADirectoryError as error:
        raise ArtifactError(
            f"expected a folder with a {what}, got the file {path.parent}"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is damaged: not JSON ({error})") from error


@contextlib.contextmanager
def new_folder(out: Path, *, replace_marker: str) -> Iterator[Path]:
    """A folder to fill that appears under its name only when the block ends without an error.

    An existing `out` is replaced only when it is empty or holds `replace_marker`, the file by
    which ranker knows its own artifact; a user's other folder is never touched.

    Raises:
        ArtifactError: `out` exists and is something else.
    """
    check_replaceable(out, replace_marker)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _swap(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_replaceable(out: Path, replace_marker: str) -> None:
    """Refuse to write over anything but an artifact of the same kind.

    Raises:
        ArtifactError: `out` is a file, or a folder with other content.
    """
    if out.is_file():
        raise ArtifactError(f"cannot write the folder {out}: a file of that name exists")
    if out.is_dir() and any(out.iterdir()) and not (out / replace_marker).exists():
        raise ArtifactError(
            f"cannot write to {out}: it holds other files (no {replace_marker}); "
            "name an empty or new folder"
        )


def _swap(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)
