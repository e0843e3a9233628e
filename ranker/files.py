"""Files that are whole or absent: atomic writes, folders published by a rename, hashes."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ranker.errors import ArtifactError, RankerError, first_line

__all__ = [
    "exclusive_lock",
    "cache_folder",
    "link_or_copy",
    "new_file",
    "new_folder",
    "read_json",
    "sha256",
    "write_failure",
    "write_json",
    "write_text",
]


def cache_folder() -> Path:
    """Return the folder for what can be made again: `ranker/` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ranker"


@contextlib.contextmanager
def exclusive_lock(folder: Path, *, message: str) -> Iterator[None]:
    """Hold an exclusive lock on a folder; the OS releases it when the process exits.

    Args:
        folder: an existing folder.
        message: the error if another process holds the lock.

    Raises:
        ArtifactError: another process holds the lock.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: other processes are not noticed
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtifactError(message) from error
        yield
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file to save the space of a large model, or copy it where links are refused."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file to fill: a reader sees the old file or the new one, never a part.

    Raises:
        ArtifactError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {write_failure(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # an error about its folder has been raised by then
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as `new_file` does.

    Raises:
        ArtifactError: the file cannot be written.
    """
    with new_file(path) as file:
        file.write(text)


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys, so that equal values make equal files."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path, *, what: str) -> Any:
    """Read a JSON file; `what` names the artifact in the error.

    Raises:
        ArtifactError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        article = "an" if what[0] in "aeiou" else "a"
        raise ArtifactError(
            f"{path.name} is missing", about=f"{path.parent} is not {article} {what}"
        ) from error
    except NotADirectoryError as error:
        raise ArtifactError(
            f"expected a folder with a {what}, got the file {path.parent}"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"{path.name} is damaged: not JSON ({error})", about=path.parent
        ) from error


@contextlib.contextmanager
def new_folder(out: Path, *, replace_marker: str) -> Iterator[Path]:
    """Open a folder to fill, which appears under its name only if the block ends without an error.

    An existing `out` is replaced only when it is empty or holds `replace_marker`, the file by
    which ranker knows its own artifact; a user's other folder is never touched.

    Raises:
        ArtifactError: `out` exists and is another thing, or cannot be written.
    """
    check_replaceable(out, replace_marker)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _swap(partial, out)
    except Exception as error:
        reason = write_failure(error)
        if reason is None:
            raise
        raise ArtifactError(f"cannot write the folder {out}: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_replaceable(out: Path, replace_marker: str) -> None:
    """Refuse to overwrite anything but an artifact of the same kind.

    Raises:
        ArtifactError: `out` is a file, or a folder with other content.
    """
    if out.name in ("", ".."):
        raise ArtifactError(f"cannot write to the folder {out} itself; name one inside it")
    if out.is_file():
        raise ArtifactError(f"cannot write the folder {out}: a file of that name exists")
    if out.is_dir() and any(out.iterdir()) and not (out / replace_marker).exists():
        raise ArtifactError(
            f"cannot write to {out}: it holds other files (no {replace_marker}); "
            "name an empty or new folder"
        )


def write_failure(error: Exception) -> str | None:
    """Return why a file could not be written; None if the error is about something else.

    safetensors, tokenizers and torch raise errors of their own instead of OSError, which only
    their text gives away.
    """
    reason = first_line(error)
    if isinstance(error, OSError):
        reason = error.strerror or reason
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    else:
        if isinstance(error, RankerError) or not any(mark in reason for mark in _WRITE_FAILED):
            return None
        full = True
    return f"{reason}; make room there, or name another place" if full else reason


_WRITE_FAILED = ("I/O error", "(os error ", "inline_container.cc", "PytorchStreamWriter")


def _swap(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)
