"""The record of what `ranker package --into` added to an application, a file of that application.

`ext/ranker/NAME.json`: Vespa reserves `ext/` for files that it does not read.  It holds the
manifest, which makes `feed`, `query`, `evaluate` and `verify` work, and what is needed to remove
the model again.
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
    """Text that was inserted into an existing file.

    Attributes:
        file: its path in the application.
        text: exactly what was inserted, including line ends.
    """

    file: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One model in an application.

    Attributes:
        manifest: its names and contract.
        files: files that were added, with the hash of their content (`content_hash`).
        insertion: the lines in the schema, or None if it had the fields already.
        folders: folders that were created for the files.
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
        """The path of the record."""
        return record_file(self.name)

    @property
    def model(self) -> str:
        """The path of the ONNX file."""
        return model_file(self.name)

    @property
    def tokenizer(self) -> str:
        """The path of the tokenizer."""
        return tokenizer_file(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
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
        """Make the installation of a JSON value.

        Args:
            values: the JSON value, not checked yet.
            where: the file that it comes from, for messages.

        Raises:
            ArtifactError: the value is not a record.
        """
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"expected the format {FORMAT}, got {values['format']!r}")
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
            ArtifactError: it is missing, or is not a record.
        """
        record = cls.from_dict(read_json(path, what="model in an application"), where=str(path))
        if record.name != path.stem:
            raise ArtifactError(
                f"{path} is the record of the model {record.name}; expected the file name "
                f"{record.name}.json"
            )
        return record


def installations(app: Path) -> list[Installation]:
    """Return the models that were added to an application, by name.

    Raises:
        ArtifactError: a record cannot be read.
    """
    return [Installation.open(path) for path in records(app)]


def records(app: Path) -> list[Path]:
    """Return the path of every model's record in an application."""
    return sorted((app / RECORDS).glob("[!.]*.json"), key=lambda path: path.name)


def _require_inside(path: str) -> None:
    """Refuse a path outside the application: files of a record are deleted with the model.

    Raises:
        ValueError: the path leads outside.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in path:
        raise ValueError(f"{path!r} is not a path in an application")


def record_file(name: str) -> str:
    """Return the path of a model's record."""
    return f"{RECORDS}/{name}.json"


def model_file(name: str) -> str:
    """Return the path of a model; in files/, because Vespa imports all of models/ twice."""
    return f"files/{name}.onnx"


def tokenizer_file(name: str) -> str:
    """Return the path of a model's tokenizer, in its own folder so that it is never `NAME.json`."""
    return f"{RECORDS}/{name}/tokenizer.json"


def content_hash(content: bytes | Path) -> str:
    """Return the SHA-256 of a file; of a text regardless of its line ends, which git may change."""
    if isinstance(content, Path):
        if content.suffix == ".onnx":
            return sha256(content)
        content = content.read_bytes()
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()
