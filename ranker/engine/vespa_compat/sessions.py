"""The application packages of a data folder, each in a folder named by its session's number.

    DATA/applications/7/          the active session; the store holds its number
    DATA/applications/8/          a prepared session that waits for its activation
    DATA/applications/9.new/      a created session that is not prepared yet
    DATA/applications/upload-x    an upload; removed at the next start, as are the sessions older
                                  than the active one

A folder gets its name by a rename once all of it is on disk, so a kill never leaves half a session.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from ranker.artifacts.bundle import HASHES
from ranker.errors import ArtifactError
from ranker.files import link_or_copy, write_failure
from ranker.package.archive import package_files, unpack_archive

__all__ = ["Sessions"]

MOST_WAITING = 5
"""Sessions that may wait for their activation; the oldest one is removed for a new one."""

_NEW = ".new"


class Sessions:
    """The folder with the packages; for one caller at a time, except for `upload`.

    Args:
        folder: made if it is missing.
        active: number of the active session; None for none.

    Attributes:
        active: number of the active session; 0 for none.

    Raises:
        ArtifactError: the folder cannot be written.
    """

    def __init__(self, folder: Path, active: int | None) -> None:
        self._folder = folder
        self.active = active or 0
        with _disk_errors(folder):
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                if _number(path) is None:
                    _remove(path)
            self._sweep()

    def folder(self, number: int) -> Path | None:
        """Return the folder of a prepared or active session; None if there is none."""
        path = self._folder / str(number)
        return path if path.is_dir() else None

    def created(self, number: int) -> Path | None:
        """Return the folder of a session that is not prepared yet; None if there is none."""
        path = self._folder / f"{number}{_NEW}"
        return path if path.is_dir() else None

    def upload(self) -> IO[bytes]:
        """Return a file for an upload, which is deleted when it is closed."""
        with _disk_errors(self._folder):
            return cast(IO[bytes], tempfile.NamedTemporaryFile(dir=self._folder, prefix="upload-"))

    def create(self, archive: IO[bytes]) -> int:
        """Unpack a package into a new session and return its number.

        Raises:
            ArtifactError: the package cannot be unpacked; nothing is left of it.
        """
        with self._new() as folder:
            unpack_archive(archive, folder)
        return self._publish(folder)

    def create_from(self, app: Path) -> int:
        """Make a session of a checked package folder and return its number.

        Raises:
            ArtifactError: a write to disk failed; nothing is left of the session.
        """
        with self._new() as folder:
            for name in package_files(app):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy((app / name).resolve(), target)
                _sync(target)
        return self._publish(folder)

    def prepared(self, number: int) -> None:
        """Give a created session its final name."""
        with _disk_errors(self._folder):
            (self._folder / f"{number}{_NEW}").rename(self._folder / str(number))
            _sync(self._folder)

    def drop(self, number: int) -> None:
        """Remove a session that is not active."""
        for path in (self.folder(number), self.created(number)):
            if path is not None:
                _remove(path)

    def activated(self, number: int) -> None:
        """Note the active session, and remove older ones."""
        self.active = number
        with contextlib.suppress(OSError):  # otherwise at the next start
            self._sweep()

    def is_active(self, app: Path) -> bool:
        """Say whether a package folder has the files of the active session, by their hashes."""
        folder = self.folder(self.active)
        try:
            return folder is not None and _hashes(folder) == _hashes(app)
        except OSError:
            return False

    @contextlib.contextmanager
    def _new(self) -> Iterator[Path]:
        """Yield a folder to fill, which is removed if that fails."""
        with _disk_errors(self._folder):
            folder = Path(tempfile.mkdtemp(dir=self._folder, prefix="unpacked-"))
            folder.chmod(0o755)  # `mkdtemp` makes it private to this user
            try:
                yield folder
                for path in (folder, *folder.rglob("*")):
                    if path.is_dir():
                        _sync(path)
            except BaseException:
                _remove(folder)
                raise

    def _publish(self, folder: Path) -> int:
        waiting = sorted(number for number in self._numbers() if number > self.active)
        number = max([self.active, *waiting]) + 1
        with _disk_errors(self._folder):
            folder.rename(self._folder / f"{number}{_NEW}")
            _sync(self._folder)
        for old in waiting[: max(len(waiting) + 1 - MOST_WAITING, 0)]:
            self.drop(old)
        return number

    def _sweep(self) -> None:
        for path in self._folder.iterdir():
            number = _number(path)
            if number is not None and number < self.active:
                _remove(path)

    def _numbers(self) -> set[int]:
        numbers = map(_number, self._folder.iterdir())
        return {number for number in numbers if number is not None}


def _number(path: Path) -> int | None:
    """Return the number of the session that a path names; None if it names none."""
    name = path.name.removesuffix(_NEW)
    return int(name) if name.isdecimal() else None


def _hashes(app: Path) -> bytes:
    return (app / HASHES).read_bytes()


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn a failed write to disk into an `ArtifactError`."""
    try:
        yield
    except OSError as error:
        reason = str(write_failure(error))
        raise ArtifactError(reason, about=f"cannot write to {folder}") from error
