"""What a model rests on, so that it can be identified and made again.

Model files, judged data, versions and machine are recorded here, and what is recorded is compared
with what is found later.
"""

import importlib.metadata
import os
import platform
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.dataset.loading import judged_source
from ranker.errors import ArtifactError, DataError, require
from ranker.files import sha256
from ranker.model import hub
from ranker.model.base import Base
from ranker.model.heads.modular import module_files
from ranker.model.heads.similarity import sentence_encoder_files

__all__ = [
    "UNKNOWN",
    "DataProvenance",
    "changed_files",
    "check_base",
    "check_cross_encoder",
    "check_data",
    "environment",
    "model_provenance",
    "served_provenance",
]

UNKNOWN = "unknown"
_BASE_FILES = ("*.safetensors", "*.bin", "config.json", "tokenizer.json")
_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "bm25s")


@dataclass(frozen=True, kw_only=True)
class DataProvenance:
    """Where judged data came from.

    Attributes:
        data: absolute path, or an id of `ir_datasets`.
        format, split, skip_bad: how it was read.
        files: SHA-256 of each file that was read, by its path below `data` (its name, if `data`
            is a file).
        license: of the data, as the user stated it.
    """

    data: str
    format: str | None = None
    split: str | None = None
    skip_bad: bool = False
    files: dict[str, str] = field(default_factory=dict)
    license: str = UNKNOWN

    @classmethod
    def of(
        cls,
        data: str,
        *,
        format: str | None = None,
        split: str | None = None,
        skip_bad: bool = False,
        license: str = UNKNOWN,
    ) -> "DataProvenance":
        """Hash the files of judged data; the arguments are those of `load`.

        Raises:
            DataError: there is no judged data, or a file cannot be read.
        """
        path = Path(data)
        files = judged_source(data, format=format, split=split).files(split)
        below = path if path.is_dir() else path.parent
        try:
            hashes = {file.relative_to(below).as_posix(): sha256(file) for file in files}
        except OSError as error:
            raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
        return cls(
            data=str(path.resolve()) if path.exists() else data,
            format=format,
            split=split,
            skip_bad=skip_bad,
            files=hashes,
            license=license,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def check_data(expected: DataProvenance, actual: DataProvenance) -> None:
    """Compare the files of a training's data with those that are there now.

    Raises:
        DataError: a file is missing, new or different; the message names it.
    """
    for name in sorted(expected.files.keys() | actual.files.keys()):
        before, now = expected.files.get(name), actual.files.get(name)
        if before != now:
            path = Path(actual.data) / name if Path(actual.data).is_dir() else actual.data
            raise DataError(
                f"{path} is not what the training read: sha256 {_short(now)}, expected "
                f"{_short(before)}"
            )


def model_provenance(base: Base) -> dict[str, Any]:
    """Return name, revision, file hashes and licence of a base model, as far as they are known."""
    folder = Path(base.source)
    of_hub = hub.hub_id(folder)
    packaged = base.name == hub.DEFAULT_BASE
    id_ = f"sentence-transformers/{hub.DEFAULT_BASE}" if packaged else of_hub
    files = {file.name for pattern in _BASE_FILES for file in folder.glob(pattern)}
    files.update(module_files(folder), sentence_encoder_files(folder))
    return {
        "name": id_ or folder.resolve().name,
        "folder": id_ is None,
        "revision": folder.name if of_hub else None,
        "license": _license(folder / "README.md"),
        "files": {file: sha256(folder / file) for file in sorted(files)},
    }


def served_provenance(name: str, base: Base) -> dict[str, Any]:
    """Return the provenance of an existing cross-encoder, with the files it is read from only.

    Its `source` is the folder, or the id whose revision is in the hub's cache.
    """
    provenance = model_provenance(base)
    source = str(Path(base.source).absolute()) if provenance["folder"] else name
    files = provenance["files"]
    read = {file: files[file] for file in sorted(files) if _is_read(file, files)}
    return provenance | {"name": name, "source": source, "files": read}


def check_base(expected: Mapping[str, Any], base: Base) -> None:
    """Compare a base model's files with those that a training began with.

    Raises:
        ArtifactError: a file differs or is new; the message names it.
    """
    folder, files = Path(base.source), expected["files"]
    for name, digest in changed_files(folder, files):
        raise ArtifactError(
            f"{folder / name} of the base model is not what the training began with: sha256 "
            f"{_short(digest)}, expected {_short(files.get(name))}"
        )


def check_cross_encoder(folder: Path, origin: Mapping[str, Any]) -> None:
    """Compare a folder's files with those that a bundle was exported from.

    Raises:
        ArtifactError: a file is missing, new or different.
    """
    for name, digest in changed_files(folder, origin["files"]):
        raise ArtifactError(
            f"{folder} is not the cross-encoder that the bundle was exported from: {name} has "
            f"the sha256 {_short(digest)}, expected {_short(origin['files'].get(name))}"
        )


def changed_files(folder: Path, files: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Yield the model files that are missing, new or different, with their hashes; small first.

    New weights and modules count as a change: they are read in place of older ones.

    Args:
        folder: the model's folder.
        files: SHA-256 by name, as in `model_provenance`.
    """
    read = {file.name for file in folder.glob("*.safetensors")} | set(module_files(folder))
    small_first = sorted(files.keys() | read, key=lambda name: (name[-5:] != ".json", name))
    for name in small_first:
        path = folder / name
        digest = sha256(path) if path.is_file() else None
        if digest != files.get(name):
            yield name, digest


def environment(*, processes: int) -> dict[str, Any]:
    """Return the versions, the machine, and the numbers of threads and processes."""
    torch = require("torch", extra="train")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {
        "ranker": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        **{name: _version(name) for name in _LIBRARIES},
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_read(file: str, files: Collection[str]) -> bool:
    """Return whether transformers reads a file: old weights only without safetensors."""
    if not file.endswith(".bin"):
        return True
    return fnmatch(file, hub.OLD_WEIGHTS) and not any(f.endswith(".safetensors") for f in files)


def _license(readme: Path) -> str:
    """Return the licence that a model card's front matter names."""
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    front = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    named = (
        re.search(r"^license: *['\"]?([\w.-]+)", front[1], flags=re.MULTILINE) if front else None
    )
    return named[1] if named else UNKNOWN


def _short(digest: str | None) -> str:
    """Return a SHA-256 as messages show it; None is that of a file that is not there."""
    return digest[:13] if digest else "none (no such file)"
