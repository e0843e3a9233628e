"""What `ranker package --into` put into somebody's application, as a file of that application.

`ext/ranker/NAME.json`: Vespa reserves `ext/` for files that it does not read.  It holds the
manifest, which makes `feed`, `query`, `evaluate` and `verify` work, and what must be known to take
the model out again.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.errors import ArtifactError
from ranker.files import read_json, sha256

__all__ = [
    "RECORDS",
    "Insertion",
    "Installation",
    "content_hash",
    "installations",
    "model_file",
    "record_file",
    "records",
    "tokenizer_file",
]

RECORDS = "ext/ranker"
FORMAT = 1


@dataclass(frozen=True)
class Insertion:
    """Text that was put into a file which was there before.

    Attributes:
        file: its path in the application.
        text: exactly what was put in, line ends included.
    """

    file: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One model in an application.

    Attributes:
        manifest: its names and contract.
        files: files that were added, with the hash of their content (`content_hash`).
        insertion: the lines in the schema, or None where the fields were there already.
        folders: folders that were made for the files.
    """

    manifest: Manifest
    files: dict[str, str]
    insertion: Insertion | None
    folders: tuple[str, ...]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def record(self) -> str:
        """Path of the record."""
        return record_file(self.name)

    @property
    def model(self) -> str:
        """Path of the ONNX file."""
        return model_file(self.name)

    @property
    def tokenizer(self) -> str:
        """Path of the tokenizer."""
        return tokenizer_file(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        insertion = self.insertion
        return {
            "format": FORMAT,
            "manifest": self.manifest.to_dict(),
            "files": self.files,
            "insertion": insertion and {"file": insertion.file, "text": insertion.text},
            "folders": list(self.folders),
        }

    @classmethod
    def from_dict(cls, values: Any, *, where: str) -> "Installation":
        """The installation of a JSON value that came from `where`.

        Raises:
            ArtifactError: the value is none.
        """
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"its format is {values['format']!r}, this ranker knows {FORMAT}")
            insertion = values["insertion"]
            paths = [
                *values["files"],
                *values["folders"],
                *([insertion["file"]] if insertion else []),
            ]
            for path in paths:
                _require_inside(path)
            return cls(
                manifest=Manifest.from_dict(values["manifest"], where=where),
                files=dict(values["files"]),
                insertion=insertion and Insertion(insertion["file"], insertion["text"]),
                folders=tuple(values["folders"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{where} is not a record of `ranker package --into`: {error}"
            ) from error

    @classmethod
    def open(cls, path: Path) -> "Installation":
        """Read a record.

        Raises:
            ArtifactError: it is missing, or is none.
        """
        found = cls.from_dict(read_json(path, what="model in an application"), where=str(path))
        if found.name != path.stem:
            raise ArtifactError(
                f"{path} is the record of the model {found.name}; it cannot be under another name"
            )
        return found


def installations(app: Path) -> list[Installation]:
    """The models that were put into an application, by name.

    Raises:
        ArtifactError: a record cannot be read.
    """
    return [Installation.open(path) for path in records(app)]


def records(app: Path) -> list[Path]:
    """The record of every model in an application."""
    return sorted((app / RECORDS).glob("[!.]*.json"), key=lambda path: path.name)


def _require_inside(path: str) -> None:
    """Files of a record may be deleted one day: none of them may lie outside of the application.

    Raises:
        ValueError: one does.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in path:
        raise ValueError(f"{path!r} is no path in an application")


def record_file(name: str) -> str:
    """Path of a model's record."""
    return f"{RECORDS}/{name}.json"


def model_file(name: str) -> str:
    """Path of a model; in files/, not models/: Vespa imports all of models/ a second time."""
    return f"files/{name}.onnx"


def tokenizer_file(name: str) -> str:
    """Path of a model's tokenizer, in a folder of its own so that it is not taken for a record."""
    return f"{RECORDS}/{name}/tokenizer.json"


def content_hash(content: bytes | Path) -> str:
    """Hex SHA-256 of a file's bytes; of a text, whatever its line ends: git may change them."""
    if isinstance(content, Path):
        if content.suffix == ".onnx":
            return sha256(content)
        content = content.read_bytes()
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()
