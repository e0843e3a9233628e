"""Ids and scores of pairs: torch, ONNX in Python, the embedded engine and Vespa's evaluator.

What every way got and gave is compared cell by cell and score by score, for every rank profile
with a model.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ranker.artifacts.bundle import Checkpoint
from ranker.client.search import App
from ranker.errors import MissingExtra, RankerError
from ranker.package.application import Package
from ranker.verify.origin import Lost, find_checkpoint
from ranker.verify.parity.backends import OnnxWay, TorchWay, VespaWay, model_profiles
from ranker.verify.parity.difference import Tally, compare, id_problems
from ranker.verify.parity.engine import EngineWay, running_engine
from ranker.verify.parity.pairs import TextPair
from ranker.verify.parity.scored_pairs import ScoringBackend, encode_pairs
from ranker.verify.result import CheckResult, first_of
from ranker.verify.vespa.court import Court

__all__ = ["check_parity"]

PART = 512
"""Pairs that are looked at by all ways before the next ones: bounds the memory."""


@dataclass
class _Ways:
    """The ways there are, and why there are no others."""

    ways: list[ScoringBackend] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_parity(
    package: Package,
    pairs: Sequence[TextPair],
    *,
    court: Court,
    checkpoint: Checkpoint | None = None,
    engine: bool = True,
    on_progress: Callable[[int], None] = lambda done: None,
) -> CheckResult:
    """Compare ids, mask, segments and scores of pairs, for every rank profile with a model.

    Args:
        package: the application package.
        pairs: texts.
        court: Vespa's evaluator.
        checkpoint: what the model was exported from; by default looked for, and torch is left
            out if it is not found.
        engine: whether to start the embedded engine, too.
        on_progress: called with the number of pairs done.
    """
    tally, found = Tally(), _Ways()
    encoder = package.encoder()
    try:
        with contextlib.ExitStack() as stack:
            _open_ways(found, stack, package, court, checkpoint, engine=engine)
            # Engine and judge are processes of their own: all ways work at the same time.
            pool = stack.enter_context(ThreadPoolExecutor(len(found.ways) or 1))
            for at in range(0, len(pairs), PART):
                part = encode_pairs(encoder, pairs[at : at + PART], first=at)
                tally.problems += id_problems(part, package.spec)
                looks = pool.map(lambda way, part=part: list(way.look(part)), found.ways)
                compare(part, [one for seen in looks for one in seen], encoder, tally)
                on_progress(at + len(part))
    except RankerError as error:
        tally.problems.append(str(error))
    profiles = model_profiles(package.manifest)
    return CheckResult(
        name="parity",
        problems=first_of(tally.problems),
        warnings=tuple(found.warnings),
        skipped=(*found.skipped, *court.skipped("ids and scores in Vespa's evaluator")),
        figures=_figures(len(pairs), len(profiles), tally),
        difference=tally.difference,
    )


def _open_ways(
    found: _Ways,
    stack: contextlib.ExitStack,
    package: Package,
    court: Court,
    checkpoint: Checkpoint | None,
    *,
    engine: bool,
) -> None:
    """Open every way that can be had; ONNX first, which the others are compared with."""
    with _missing(found, "scores of ONNX Runtime"):
        onnx = OnnxWay(package)
        stack.callback(onnx.close)
        found.ways.append(onnx)
    with _missing(found, "ids and scores of the checkpoint in torch"):
        origin = checkpoint or find_checkpoint(package)
        if isinstance(origin, Lost):
            found.warnings.append(
                f"not compared with torch: {origin.reason}; name it with --checkpoint"
            )
        else:
            found.ways.append(TorchWay(package, origin))
    if engine and not package.own:
        found.warnings.append(
            "not compared with the embedded engine, which runs packages of `ranker package --out` "
            "only"
        )
    elif engine:
        with _missing(found, "ids and scores in the embedded engine"):
            url = stack.enter_context(running_engine(package.path))
            way = EngineWay(App(package.manifest, package.encoder()), url)
            stack.callback(way.close)
            found.ways.append(way)
    if court.bench is not None:
        found.ways.append(VespaWay(package, court.bench))


@contextlib.contextmanager
def _missing(found: _Ways, what: str) -> Iterator[None]:
    """A library that is not installed is no fault of the package."""
    try:
        yield
    except MissingExtra as error:
        found.skipped.append(f"{what}: {error}")


def _figures(pairs: int, profiles: int, tally: Tally) -> dict[str, float]:
    totals = {"torch": 0, "ONNX": 0, "engine": 0, "Vespa": 0}
    for name, answers in tally.answers.items():
        way = name.split(" ")[0]
        if way in totals and name != "ONNX in batches":
            totals[way] += answers
    return {
        "pairs": pairs,
        "profiles": profiles,
        "cells": tally.cells,
        "id_mismatches": tally.id_mismatches,
        "largest_score_difference": tally.largest,
        **{f"scores_{way.lower()}": number for way, number in totals.items()},
    }
