"""An application package as one zip file: the same bytes for the same content."""

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, BinaryIO

from ranker.errors import ArtifactError

__all__ = ["write_archive"]

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that a zip file can hold."""

DENSE = {".onnx"}
"""Trained weights: compressing them takes seconds and saves less than a tenth."""


def write_archive(
    app: Path, out: IO[bytes], *, extra: Mapping[str, bytes] | None = None
) -> list[str]:
    """Write a package folder as a zip file; models stream from the disk.

    Args:
        app: the package folder; hidden files are left out.
        out: where to write.
        extra: more files, by their path in the package.

    Returns:
        The names in the archive, in order.

    Raises:
        ArtifactError: there is no services.xml, or a file cannot be read.
    """
    if not (app / "services.xml").is_file():
        raise ArtifactError(f"{app} is not an application package: services.xml is missing")
    files = {name: path for path in app.rglob("*") if (name := _name(app, path)) is not None}
    names = sorted({*files, *(extra or {})})
    try:
        with zipfile.ZipFile(out, "w") as archive:
            for name in names:
                if extra is not None and name in extra:
                    archive.writestr(_entry(name, len(extra[name])), extra[name])
                else:
                    with files[name].open("rb") as source:
                        _copy(archive, _entry(name, files[name].stat().st_size), source)
    except OSError as error:
        raise ArtifactError(f"cannot pack {app}: {error.strerror or error}") from error
    return names


def _name(app: Path, path: Path) -> str | None:
    relative = path.relative_to(app)
    if not path.is_file() or any(part.startswith(".") for part in relative.parts):
        return None
    return relative.as_posix()


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=EPOCH)
    dense = Path(name).suffix in DENSE
    entry.compress_type = zipfile.ZIP_STORED if dense else zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, wherever it is made
    entry.external_attr = 0o644 << 16
    entry.file_size = size
    return entry


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, source: BinaryIO) -> None:
    with archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)
