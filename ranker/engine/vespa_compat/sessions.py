"""The application packages of a data folder, each in a folder named by its session's number.

    DATA/applications/7/          the active one; the store says which number that is
    DATA/applications/8/          prepared, waits for its activation
    DATA/applications/9.new/      created, to be prepared
    DATA/applications/upload-x    on its way; gone at the next start, as what is older than the
                                  active one

A folder gets its name by a rename when all of it is on the disk, so a kill leaves no half of one.
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
"""Sessions that may wait for their activation; the oldest gives way."""

_NEW = ".new"


class Sessions:
    """The folder with the packages; one caller at a time, but for `upload`.

    Args:
        folder: made if it is missing.
        active: number of the active session; None for none.

    Raises:
        ArtifactError: the folder cannot be written.
    """

    def __init__(self, folder: Path, active: int | None) -> None:
        self._folder = folder
        self.active = active or 0
        with _told(folder):
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                if _number(path) is None:
                    _remove(path)
            self._sweep()

    def folder(self, number: int) -> Path | None:
        """The folder of a session that is prepared or active; None where there is none."""
        path = self._folder / str(number)
        return path if path.is_dir() else None

    def created(self, number: int) -> Path | None:
        """The folder of a session that is not prepared yet; None where there is none."""
        path = self._folder / f"{number}{_NEW}"
        return path if path.is_dir() else None

    def upload(self) -> IO[bytes]:
        """A file for a body that comes in, gone when it is closed."""
        with _told(self._folder):
            return cast(IO[bytes], tempfile.NamedTemporaryFile(dir=self._folder, prefix="upload-"))

    def create(self, archive: IO[bytes]) -> int:
        """Unpack a package into a new session; its number.

        Raises:
            ArtifactError: it cannot be unpacked; nothing is left of it.
        """
        with self._new() as folder:
            unpack_archive(archive, folder)
        return self._publish(folder)

    def create_from(self, app: Path) -> int:
        """A new session with the files of a package folder that was checked; its number.

        Raises:
            ArtifactError: the disk refuses; nothing is left of it.
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
        with _told(self._folder):
            (self._folder / f"{number}{_NEW}").rename(self._folder / str(number))
            _sync(self._folder)

    def drop(self, number: int) -> None:
        """Remove a session that is not active."""
        for path in (self.folder(number), self.created(number)):
            if path is not None:
                _remove(path)

    def activated(self, number: int) -> None:
        """Note which one is active, and remove what is older."""
        self.active = number
        with contextlib.suppress(OSError):  # else at the next start
            self._sweep()

    def is_active(self, app: Path) -> bool:
        """Whether a package folder has the files of the active session, by their hashes."""
        folder = self.folder(self.active)
        try:
            return folder is not None and _hashes(folder) == _hashes(app)
        except OSError:
            return False

    @contextlib.contextmanager
    def _new(self) -> Iterator[Path]:
        """A folder to fill, removed if that fails."""
        with _told(self._folder):
            folder = Path(tempfile.mkdtemp(dir=self._folder, prefix="unpacked-"))
            folder.chmod(0o755)
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
        with _told(self._folder):
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
    """The session's number that a path names; None where it names none."""
    name = path.name.removesuffix(_NEW)
    return int(name) if name.isdecimal() else None


def _hashes(app: Path) -> bytes:
    return (app / HASHES).read_bytes()


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
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
def _told(folder: Path) -> Iterator[None]:
    """What the disk refuses, in words."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"cannot write to {folder}: {write_failure(error)}") from error
