"""The directory next to a checkpoint-to-be from which an interrupted training resumes."""

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ranker.errors import ArtifactError
from ranker.files import exclusive_lock, write_text
from ranker.train import processes

__all__ = ["RunDirectory"]

logger = logging.getLogger(__name__)


class RunDirectory:
    """The state of a training, in `.NAME.work` next to its checkpoint.

    Args:
        out: the folder of the checkpoint.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.parent / f".{out.name}.work"
        self._identity, self._seconds = self.path / "identity", self.path / "seconds"
        self._began = time.monotonic()

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """Create the directory and keep other trainings away from it.

        It is removed when the block ends, unless the training can be resumed from it.

        Raises:
            ArtifactError: another training uses it.
        """
        with contextlib.ExitStack() as held:
            processes.by_first(lambda: self._reserve(held))
            try:
                yield
            except BaseException:
                if processes.is_first() and self._is_resumable():
                    with contextlib.suppress(ArtifactError):  # if the disk is full
                        write_text(self._seconds, str(self.seconds()))
                elif processes.is_first():
                    shutil.rmtree(self.path, ignore_errors=True)
                raise
            processes.by_first(lambda: shutil.rmtree(self.path))

    def resume(self, decisive: list[Any]) -> None:
        """Keep what an interrupted run of the same training left; clear what another one left.

        Args:
            decisive: everything that decides the result, as plain values.
        """
        identity = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        left = list(self.path.iterdir())
        if self._identity.is_file() and self._identity.read_text(encoding="utf-8") == identity:
            logger.info("resuming the interrupted training")
        elif left:
            logger.warning(
                "%s is left from a training with other arguments or data; cleared", self.path
            )
            for path in left:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        write_text(self._identity, identity)

    def seconds(self) -> float:
        """Return the time spent on the training, including the runs before an interruption."""
        before = self._seconds.read_text(encoding="utf-8") if self._seconds.is_file() else "0"
        return float(before) + time.monotonic() - self._began

    def _reserve(self, held: contextlib.ExitStack) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        message = f"another training is at work in {self.path}; wait for it, or name another --out"
        held.enter_context(exclusive_lock(self.path, message=message))

    def _is_resumable(self) -> bool:
        """Return whether there is a save, or a finished stage, fold or run to resume from."""
        return any(self.path.rglob("checkpoint-*")) or any(self.path.rglob("*.json"))
