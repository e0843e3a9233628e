"""The judge together with the package it judges; or the reason why there is none."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ranker.errors import VerifyError
from ranker.verify.vespa.process import VespaProcess, working_copy

__all__ = ["Bench", "Court", "open_court"]


@dataclass(frozen=True)
class Bench:
    """A judge and the working copy of the package for it."""

    judge: VespaProcess
    app: Path


@dataclass(frozen=True)
class Court:
    """A bench, or why there is none."""

    bench: Bench | None
    reason: str = ""

    def skipped(self, what: str) -> tuple[str, ...]:
        """What a check must leave out, with the reason; nothing where there is a bench."""
        return () if self.bench else (f"{what}: {self.reason}",)


@contextlib.contextmanager
def open_court(app: Path, *, version: str) -> Iterator[Court]:
    """A court for a package; one without a bench where there is no JDK or the build fails."""
    try:
        judge = VespaProcess(version=version)
    except VerifyError as error:
        yield Court(None, str(error))
        return
    with judge, working_copy(app) as copy:
        yield Court(Bench(judge, copy))
