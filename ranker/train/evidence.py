"""What a training rests on, so that it can be repeated: data, base model, versions, machine."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.bundle import Checkpoint
from ranker.dataset import Dataset
from ranker.dataset.collection import same_collection
from ranker.dataset.loading import judged_source
from ranker.errors import ArtifactError, DataError, require
from ranker.files import read_json, sha256
from ranker.hub import hub_id
from ranker.model import DEFAULT_BASE, Base
from ranker.train import processes

__all__ = [
    "UNKNOWN",
    "Provenance",
    "base_evidence",
    "changed_files",
    "check_base",
    "check_files",
    "environment",
    "learned_before",
    "provenance",
    "short_hash",
]

UNKNOWN = "unknown"
_LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "numpy", "bm25s")
_BASE_FILES = ("*.safetensors", "*.bin", "config.json", "tokenizer.json")


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


def base_evidence(base: Base) -> dict[str, Any]:
    """Name, revision, file hashes and licence of a base model, as far as they are known."""
    folder = Path(base.source)
    of_hub = hub_id(folder)
    id_ = f"sentence-transformers/{DEFAULT_BASE}" if base.name == DEFAULT_BASE else of_hub
    files = sorted(file for pattern in _BASE_FILES for file in folder.glob(pattern))
    return {
        "name": id_ or folder.resolve().name,
        "folder": id_ is None,
        "revision": folder.name if of_hub else None,
        "license": _license(folder / "README.md"),
        "files": {file.name: sha256(file) for file in files},
    }


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


def check_base(expected: dict[str, Any], base: Base) -> None:
    """Compare a base model's files with those that a training began with.

    Raises:
        ArtifactError: a file differs or is new; the message names it.
    """
    folder, files = Path(base.source), expected["files"]
    for name, found in changed_files(folder, files):
        raise ArtifactError(
            f"{folder / name} of the base model is not what the training began with: sha256 "
            f"{short_hash(found)}, expected {short_hash(files.get(name))}"
        )


def changed_files(folder: Path, files: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Files of a model that are missing, new or different, with their hashes; small ones first.

    Weights that came since are read in place of older ones, so they make another model, too.

    Args:
        folder: where it lies.
        files: SHA-256 by name, as in `base_evidence`.
    """
    weights = {file.name for file in folder.glob("*.safetensors")}
    for name in sorted(files.keys() | weights, key=_small_first):
        path = folder / name
        found = sha256(path) if path.is_file() else None
        if found != files.get(name):
            yield name, found


def _small_first(name: str) -> tuple[bool, str]:
    return not name.endswith(".json"), name


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


def _license(readme: Path) -> str:
    """The licence that a model card's front matter names."""
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    front = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    named = (
        re.search(r"^license: *['\"]?([\w.-]+)", front[1], flags=re.MULTILINE) if front else None
    )
    return named[1] if named else UNKNOWN


def short_hash(digest: str | None) -> str:
    """A SHA-256 as messages show it; None is that of a file that is not there."""
    return digest[:13] if digest else "none (no such file)"
