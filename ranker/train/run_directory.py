"""The folder beside a checkpoint-to-be in which an interrupted training goes on."""

import contextlib
import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from ranker.files import exclusive_lock, write_text

__all__ = ["is_resumable", "note_spent", "open_work", "reserve", "spent_on", "work_of"]

logger = logging.getLogger(__name__)

_IDENTITY = "identity"


def work_of(out: Path) -> Path:
    """The folder with the state of a training that writes `out`."""
    return out.parent / f".{out.name}.work"


def reserve(work: Path, *, held: contextlib.ExitStack) -> None:
    """Make the folder, and keep other trainings away from it until `held` is closed.

    Raises:
        ArtifactError: another training is at work there.
    """
    work.mkdir(parents=True, exist_ok=True)
    says = f"another training is at work in {work}; wait for it, or name another --out"
    held.enter_context(exclusive_lock(work, message=says))


def open_work(work: Path, decisive: list[Any]) -> None:
    """Go on with what is in the folder; what is left from another training is cleared.

    Args:
        work: the folder, reserved.
        decisive: everything that decides the result, as plain values.
    """
    mark = work / _IDENTITY
    identity = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    left = list(work.iterdir())
    if mark.is_file() and mark.read_text(encoding="utf-8") == identity:
        logger.info("going on with the training that was interrupted")
    elif left:
        logger.warning("%s is left from a training with other arguments or data; cleared", work)
        for path in left:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    write_text(mark, identity)


def spent_on(work: Path) -> float:
    """Seconds that went into it before the last interruption."""
    return float(_spent(work).read_text(encoding="utf-8")) if _spent(work).is_file() else 0.0


def note_spent(work: Path, seconds: float) -> None:
    """Note them, for the run that goes on."""
    write_text(_spent(work), str(seconds))


def _spent(work: Path) -> Path:
    return work / "seconds"


def is_resumable(work: Path) -> bool:
    """Whether a save, a finished stage, fold or run is there to go on from."""
    return any(work.rglob("checkpoint-*")) or any(work.rglob("*.json"))
