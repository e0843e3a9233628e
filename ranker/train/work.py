"""The folder beside a checkpoint-to-be in which an interrupted training goes on."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from ranker.files import write_text

__all__ = ["is_resumable", "open_work", "work_of"]

logger = logging.getLogger(__name__)

_IDENTITY = "identity"


def work_of(out: Path) -> Path:
    """The folder with the state of a training that writes `out`."""
    return out.parent / f".{out.name}.work"


def open_work(work: Path, decisive: list[Any]) -> None:
    """Make the folder, or go on with it; one that is left from another training is cleared.

    Args:
        work: the folder.
        decisive: everything that decides the result, as plain values.
    """
    mark = work / _IDENTITY
    identity = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    if work.exists() and (not mark.is_file() or mark.read_text(encoding="utf-8") != identity):
        logger.warning("%s is left from a training with other arguments or data; cleared", work)
        shutil.rmtree(work)
    if work.exists():
        logger.info("going on with the training that was interrupted")
    work.mkdir(parents=True, exist_ok=True)
    write_text(mark, identity)


def is_resumable(work: Path) -> bool:
    """Whether a save, a finished stage, fold or run is there to go on from."""
    return any(work.rglob("checkpoint-*")) or any(work.rglob("*.json"))
