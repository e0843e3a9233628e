"""What a training rests on, so that it can be repeated: data, base model, versions, machine."""

import importlib.metadata
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.artifacts.bundle import Checkpoint
from ranker.dataset import Dataset
from ranker.dataset.collection import same_collection
from ranker.dataset.loading import judged_source
from ranker.errors import DataError, require
from ranker.files import read_json, sha256
from ranker.model.base import Base
from ranker.model.provenance import UNKNOWN, short_hash
from ranker.train import processes

__all__ = [
    "Provenance",
    "check_files",
    "environment",
    "learned_before",
    "provenance",
]

_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "bm25s")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the judged data came from.

    Attributes:
        data: absolute path, or an id of `ir_datasets`.
        format, split, skip_bad: how it was read.
        files: SHA-256 of each file that was read, by its path below `data` (its name, if `data`
            is a file).
        license: of the data, as the user said.
    """

    data: str
    format: str | None = None
    split: str | None = None
    skip_bad: bool = False
    files: dict[str, str] = field(default_factory=dict)
    license: str = UNKNOWN

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def provenance(
    data: str,
    *,
    format: str | None = None,
    split: str | None = None,
    skip_bad: bool = False,
    license: str = UNKNOWN,
) -> Provenance:
    """Hash the files of judged data; the arguments are those of `load`.

    Raises:
        DataError: there is no judged data, or a file cannot be read.
    """
    path = Path(data)
    files = judged_source(data, format=format, split=split).files(split)
    try:
        hashes = {_below(path, file): sha256(file) for file in files}
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
    return Provenance(
        data=str(path.resolve()) if path.exists() else data,
        format=format,
        split=split,
        skip_bad=skip_bad,
        files=hashes,
        license=license,
    )


def check_files(expected: Provenance, found: Provenance) -> None:
    """Compare the files of a training's data with what lies there now.

    Raises:
        DataError: a file is missing, new or different; the message names it.
    """
    for name in sorted(expected.files.keys() | found.files.keys()):
        before, now = expected.files.get(name), found.files.get(name)
        if before != now:
            raise DataError(
                f"{Path(found.data) / name if Path(found.data).is_dir() else found.data} is not "
                f"what the training read: sha256 {short_hash(now)}, expected {short_hash(before)}"
            )


def learned_before(base: Base, dataset: Dataset) -> set[str]:
    """Judged queries that the base, where it is a checkpoint of ranker, has learned from.

    Raises:
        ArtifactError: its training.json is damaged.
    """
    path = Path(base.source) / Checkpoint.MARKER
    if not path.is_file():
        return set()
    training = read_json(path, what="checkpoint of `ranker train`")
    here = {"name": dataset.name, "sha256": dataset.sha256}
    if not same_collection(here, training.get("data", {})):
        return set()
    return set(dataset.qrels) & set(training.get("learned_query_ids", ()))


def environment() -> dict[str, Any]:
    """Versions, machine, threads and processes."""
    torch = require("torch", extra="train")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {
        "ranker": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes.count(),
        **{name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _below(path: Path, file: Path) -> str:
    return file.relative_to(path).as_posix() if path.is_dir() else file.name
