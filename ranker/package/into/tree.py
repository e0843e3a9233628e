"""The files of an application together with changes that are not written yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ranker.errors import ArtifactError
from ranker.files import sha256

__all__ = ["Change", "Tree", "parents"]


@dataclass(frozen=True)
class Change:
    """What happens to one file.

    Attributes:
        name: its path in the application.
        old: its content now, or the file itself where it was not read; None if it is not there.
        new: its content to be, or a file with that content; None if it goes.
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
        """Content of a file; None if there is none.

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
        """A text file, line ends and all; bytes that are not UTF-8 come back as they were.

        Raises:
            ArtifactError: it is missing or cannot be read.
        """
        content = self.read(name)
        if content is None:
            raise ArtifactError(f"{self.root / name} is missing")
        return content.decode("utf-8", "surrogateescape")

    def holds(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        if name in self._new:
            return self._new[name] is not None
        return (self.root / name).exists() or (self.root / name).is_symlink()

    def write(self, name: str, content: bytes | str | Path) -> None:
        """Give a file this content; a path stands for what that file holds."""
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogateescape")
        self._new[name] = content

    def delete(self, name: str) -> None:
        """Leave a file out, if it is there."""
        self._new[name] = None

    def names(self, folder: str, suffix: str) -> list[str]:
        """Files of a folder and the folders in it, by suffix, sorted."""
        here = (path for path in (self.root / folder).rglob(f"*{suffix}") if path.is_file())
        found = {path.relative_to(self.root).as_posix() for path in here}
        found |= {name for name in self._new if name.startswith(f"{folder}/")}
        return sorted(name for name in found if name.endswith(suffix) and self.holds(name))

    def changes(self) -> list[Change]:
        """Files that will be different, in the order in which they were touched."""
        return [
            Change(name, self._old(name, new), new)
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
            return new is None and not self._there(path)
        if isinstance(new, Path):
            same_size = path.stat().st_size == new.stat().st_size
            return same_size and sha256(path) == sha256(new)
        return path.read_bytes() == new

    @staticmethod
    def _there(path: Path) -> bool:
        return path.exists() or path.is_symlink()


def parents(name: str) -> Iterator[str]:
    """The folders that a file is in, the innermost first."""
    for folder in PurePosixPath(name).parents:
        if folder.name:
            yield folder.as_posix()
