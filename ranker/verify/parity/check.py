"""The parity check: ids and scores of torch, ONNX in Python, the embedded engine and Vespa.

What every backend received and returned is compared cell by cell and score by score, for every
rank profile with a model.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ranker.artifacts.bundle import Checkpoint
from ranker.client.search import App
from ranker.errors import MissingExtra, RankerError
from ranker.package.application import Package
from ranker.verify.parity.backends import OnnxBackend, TorchBackend, VespaBackend
from ranker.verify.parity.difference import Tally, compare, id_problems
from ranker.verify.parity.engine import EngineBackend, running_engine
from ranker.verify.parity.pairs import TextPair
from ranker.verify.parity.scored_pairs import ScoringBackend, encode_pairs, model_profiles
from ranker.verify.provenance import NotFound, find_checkpoint
from ranker.verify.result import CheckResult, first_of
from ranker.verify.vespa.process import OpenPackage

__all__ = ["check_parity"]

BATCH = 512
"""Pairs that all backends score before the next ones, which bounds the memory."""


@dataclass
class _Backends:
    """The backends that are available, and why others are not."""

    available: list[ScoringBackend] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """Skip a backend if its library is not installed, which is not a problem of the package."""
        try:
            yield
        except MissingExtra as error:
            self.skipped.append(f"{what}: {error}")


def check_parity(
    package: Package,
    pairs: Sequence[TextPair],
    *,
    vespa: OpenPackage | None,
    checkpoint: Checkpoint | None = None,
    engine: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Compare ids, mask, segments and scores of pairs, for every rank profile with a model.

    Args:
        package: the application package.
        pairs: query-document pairs.
        vespa: Vespa's own code with the package; None where it cannot run.
        checkpoint: what the model was exported from; searched for by default, and torch is left
            out if it is not found.
        engine: if True, compare with the embedded engine, which is started for it.
        on_progress: called with the number of pairs compared, and of all.
    """
    tally, backends = Tally(), _Backends()
    encoder = package.encoder()
    try:
        with contextlib.ExitStack() as stack:
            _open_backends(backends, stack, package, vespa, checkpoint, engine=engine)
            # Engine and Vespa are processes of their own, so all backends score at the same time.
            pool = stack.enter_context(ThreadPoolExecutor(len(backends.available) or 1))
            for at in range(0, len(pairs), BATCH):
                batch = encode_pairs(encoder, pairs[at : at + BATCH], first=at)
                tally.problems += id_problems(batch, package.spec)
                scored = pool.map(
                    lambda backend, batch=batch: list(backend.score(batch)), backends.available
                )
                compare(batch, list(itertools.chain.from_iterable(scored)), encoder, tally)
                on_progress(at + len(batch), len(pairs))
    except RankerError as error:
        tally.problems.append(str(error))
    return CheckResult(
        name="parity",
        problems=first_of(tally.problems),
        warnings=tuple(backends.warnings),
        skipped=tuple(backends.skipped),
        figures={
            "pairs": len(pairs),
            "profiles": len(model_profiles(package.manifest)),
            "cells": tally.cells,
            "id_mismatches": tally.id_mismatches,
            "largest_score_difference": tally.largest,
            **_score_counts(tally),
        },
        difference=tally.difference,
    )


def _open_backends(
    backends: _Backends,
    stack: contextlib.ExitStack,
    package: Package,
    vespa: OpenPackage | None,
    checkpoint: Checkpoint | None,
    *,
    engine: bool,
) -> None:
    """Open every backend that is available; ONNX first, which the others are compared with."""
    with backends.optional("scores of ONNX Runtime"):
        onnx = OnnxBackend(package)
        stack.callback(onnx.close)
        backends.available.append(onnx)
    with backends.optional("ids and scores of the checkpoint in torch"):
        origin = checkpoint or find_checkpoint(package)
        if isinstance(origin, NotFound):
            backends.warnings.append(
                f"not compared with torch: {origin.reason}; name it with --checkpoint"
            )
        else:
            backends.available.append(TorchBackend(package, origin))
    if engine and not package.own:
        backends.warnings.append(
            "not compared with the embedded engine, which runs packages of `ranker package --out` "
            "only"
        )
    elif engine:
        with backends.optional("ids and scores in the embedded engine"):
            url = stack.enter_context(running_engine(package.path))
            running = EngineBackend(App(package.manifest, package.encoder()), url)
            stack.callback(running.close)
            backends.available.append(running)
    if vespa is not None:
        backends.available.append(VespaBackend(package, vespa))


def _score_counts(tally: Tally) -> dict[str, int]:
    """Count the scores of each backend; those of ONNX in batches are not counted again."""
    counts = {"torch": 0, "onnx": 0, "engine": 0, "vespa": 0}
    for name, scores in tally.scores.items():
        backend = name.split(" ")[0].lower()
        if backend in counts and name != "ONNX in batches":
            counts[backend] += scores
    return {f"scores_{backend}": count for backend, count in counts.items()}
