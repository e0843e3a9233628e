"""An application package as one zip file: the same bytes for the same content.

A zip file that comes over the network is not trusted: paths outside the folder, entries that are
not plain files, and sizes beyond those of a package are refused before a byte is written.
"""

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, BinaryIO

from ranker.contract.vespa_names import LARGEST_MODEL
from ranker.errors import ArtifactError
from ranker.files import write_failure

__all__ = ["package_files", "unpack_archive", "write_archive"]

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that a zip file can hold."""

DENSE = {".onnx"}
"""Suffixes of trained weights: compressing them takes seconds and saves less than a tenth."""

MOST_FILES = 1000
LARGEST_REST = 2**28
"""Bytes of all other files together; the largest tokenizers have about 30 MB."""


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
    names = sorted({*package_files(app), *(extra or {})})
    try:
        with zipfile.ZipFile(out, "w") as archive:
            for name in names:
                if extra is not None and name in extra:
                    archive.writestr(_entry(name, len(extra[name])), extra[name])
                else:
                    with (app / name).open("rb") as source:
                        _copy(archive, _entry(name, (app / name).stat().st_size), source)
    except OSError as error:
        raise ArtifactError(f"cannot pack {app}: {error.strerror or error}") from error
    return names


def package_files(app: Path) -> list[str]:
    """Return the paths of the files in a package folder, sorted, without hidden ones."""
    return sorted(name for path in app.rglob("*") if (name := _name(app, path)) is not None)


def unpack_archive(source: IO[bytes], folder: Path) -> None:
    """Unpack a package's zip file; all files are synced to the disk when this returns.

    Args:
        source: the zip file; it must be seekable.
        folder: an empty folder.

    Raises:
        ArtifactError: it is not a complete zip file, it holds what no package holds, or the disk
            is full.  The folder may hold a part of it then.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            entries = _checked(archive.infolist())
            _check_room(entries, folder)
            for name, entry in entries.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _extract(archive, entry, target)
    except OSError as error:
        raise ArtifactError(f"cannot unpack the zip file: {write_failure(error)}") from error
    # A wrong checksum, a missing end, a password.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"expected a complete zip file with an application package, got an unreadable one: "
            f"{error}"
        ) from error


def _checked(entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the files by their path.

    Raises:
        ArtifactError: an entry is one that no package holds.
    """
    files: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        # As in Vespa's `ArchiveStreamReader`, `./x` is `x`.
        parts = [part for part in entry.filename.rstrip("/").split("/") if part != "."]
        if any(part in ("", "..") for part in parts) or "\\" in entry.filename:
            raise ArtifactError(
                f"expected a path inside the application package, got '{entry.filename}'"
            )
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir() or kind == stat.S_IFDIR:
            continue
        name = "/".join(parts)
        if kind == stat.S_IFLNK:
            raise ArtifactError(
                f"the archive entry {name} is a symbolic link, expected a plain file"
            )
        if kind not in (0, stat.S_IFREG):
            raise ArtifactError(f"the archive entry {name} is not a plain file")
        if name in files:
            raise ArtifactError(f"the archive holds the entry {name} twice")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArtifactError(f"the archive entry {name} is neither stored nor deflated")
        files[name] = entry
    _check_sizes(files)
    return files


def _check_sizes(files: Mapping[str, zipfile.ZipInfo]) -> None:
    """Refuse an archive that unpacks to more than a package; zipfile enforces declared sizes."""
    if len(files) > MOST_FILES:
        raise ArtifactError(f"expected at most {MOST_FILES} files, got {len(files)}")
    models = [entry.file_size for name, entry in files.items() if Path(name).suffix in DENSE]
    rest = sum(entry.file_size for entry in files.values()) - sum(models)
    for what, size, limit in (
        ("ONNX files", sum(models), LARGEST_MODEL),
        ("files other than the model", rest, LARGEST_REST),
    ):
        if size > limit:
            raise ArtifactError(
                f"the archive is too large: {what} unpack to {size} bytes, expected at most {limit}"
            )


def _check_room(files: Mapping[str, zipfile.ZipInfo], folder: Path) -> None:
    needed = sum(entry.file_size for entry in files.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ArtifactError(
            f"the package needs {needed / 1e6:.0f} MB, the disk of {folder} has {free / 1e6:.0f} "
            "MB left; make room there"
        )


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    with archive.open(entry) as packed, target.open("xb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _name(app: Path, path: Path) -> str | None:
    relative = path.relative_to(app)
    if not path.is_file() or any(part.startswith(".") for part in relative.parts):
        return None
    return relative.as_posix()


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=EPOCH)
    dense = Path(name).suffix in DENSE
    entry.compress_type = zipfile.ZIP_STORED if dense else zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, on every system
    entry.external_attr = 0o644 << 16
    entry.file_size = size
    return entry


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, source: BinaryIO) -> None:
    with archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)
