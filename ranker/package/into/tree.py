"""The files of an application together with changes that are not written yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ranker.errors import ArtifactError
from ranker.files import sha256

__all__ = ["FileChange", "Tree", "parents"]


@dataclass(frozen=True)
class FileChange:
    """A change of one file.

    Attributes:
        name: its path in the application.
        old: its current content, or the file itself if it was not read; None if it does not exist.
        new: its new content, or a file with that content; None if it is deleted.
    """

    name: str
    old: bytes | Path | None
    new: bytes | Path | None


class Tree:
    """A view of a folder in which files can be written and deleted; the folder stays as it is.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._new: dict[str, bytes | Path | None] = {}

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none.

        Raises:
            ArtifactError: it cannot be read.
        """
        content = self._new[name] if name in self._new else self.root / name
        try:
            return content.read_bytes() if isinstance(content, Path) else content
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtifactError(f"cannot read {self.root / name}: {error.strerror}") from error

    def text(self, name: str) -> str:
        """Return a text file with its line ends; bytes that are not UTF-8 survive a rewrite.

        Raises:
            ArtifactError: it is missing or cannot be read.
        """
        content = self.read(name)
        if content is None:
            raise ArtifactError(f"{self.root / name} is missing")
        return content.decode("utf-8", "surrogateescape")

    def holds(self, name: str) -> bool:
        """Return True if there is such a file or folder, even as a broken link."""
        if name in self._new:
            return self._new[name] is not None
        return _exists(self.root / name)

    def write(self, name: str, content: bytes | str | Path) -> None:
        """Give a file this content; a path stands for the content of that file."""
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogateescape")
        self._new[name] = content

    def delete(self, name: str) -> None:
        """Remove a file, if it exists."""
        self._new[name] = None

    def names(self, folder: str, suffix: str) -> list[str]:
        """Return the paths of files with a suffix in a folder and below it, sorted."""
        paths = (path for path in (self.root / folder).rglob(f"*{suffix}") if path.is_file())
        names = {path.relative_to(self.root).as_posix() for path in paths}
        names |= {name for name in self._new if name.startswith(f"{folder}/")}
        return sorted(name for name in names if name.endswith(suffix) and self.holds(name))

    def changes(self) -> list[FileChange]:
        """Return the files that will differ, in the order in which they were touched."""
        return [
            FileChange(name, self._old(name, new), new)
            for name, new in self._new.items()
            if not self._same(name, new)
        ]

    def _old(self, name: str, new: bytes | Path | None) -> bytes | Path | None:
        path = self.root / name
        if not path.is_file():
            return None
        return path if not isinstance(new, bytes) else path.read_bytes()

    def _same(self, name: str, new: bytes | Path | None) -> bool:
        path = self.root / name
        if new is None or not path.is_file():
            return new is None and not _exists(path)
        if isinstance(new, Path):
            same_size = path.stat().st_size == new.stat().st_size
            return same_size and sha256(path) == sha256(new)
        return path.read_bytes() == new


def parents(name: str) -> Iterator[str]:
    """Yield the folders that a file is in, the innermost first."""
    for folder in PurePosixPath(name).parents:
        if folder.name:
            yield folder.as_posix()


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()
