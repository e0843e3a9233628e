"""The later phases: the cross-encoder over the best documents of the first, as Vespa runs them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ranker.artifacts.profile import Profile
from ranker.engine.rank.matching import Matched
from ranker.engine.rank.timer import Timer

__all__ = ["Ranked", "Scores", "rerank", "rescale"]

CHUNK = 128
"""Documents between two looks at the clock; a usual rerank of 100 is one."""

Scores = Callable[[Sequence[Matched]], list[float]]
"""Logits of documents."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document with its final score; the logit is None where the model did not see it."""

    matched: Matched
    relevance: float
    logit: float | None = None


def rerank(
    matched: Sequence[Matched], profile: Profile, count: int, logits: Scores, timer: Timer
) -> list[Ranked]:
    """All documents in their final order.

    Args:
        matched: the first phase's documents, best first.
        profile: says how a score is made; its phase was decided with `matched` and `count`.
        count: how many are reranked.
        logits: the model.
        timer: of the query.

    Raises:
        QueryError: code 12, the time is over.
    """
    if profile.phase == "first":
        found = [Ranked(m, profile.score(m.contents, math.nan)) for m in matched]
        return sorted(found, key=lambda ranked: -ranked.relevance)
    top, rest = matched[:count], matched[count:]
    found = []
    for at in range(0, len(top), CHUNK):
        timer.check()
        chunk = top[at : at + CHUNK]
        for one, logit in zip(chunk, logits(chunk), strict=True):
            score = profile.score(one.contents, logit)
            found.append(Ranked(one, -math.inf if math.isnan(score) else score, logit))
    timer.check()
    before = [one.contents for one in top]
    after = [ranked.relevance for ranked in found]
    below = rescale(before, after, [one.contents for one in rest])
    found += [Ranked(one, score) for one, score in zip(rest, below, strict=True)]
    return sorted(found, key=lambda ranked: -ranked.relevance)


def rescale(before: Sequence[float], after: Sequence[float], rest: Sequence[float]) -> list[float]:
    """Scores of the documents that were not reranked, moved below those that were.

    Vespa's rule for both phases (`first_phase_rescorer.cpp`, `RangeAdjuster.java`): linear from
    the range of the old scores to that of the new ones, both at least 1 wide, and only where the
    lowest old score of the reranked is above their lowest new one.

    Args:
        before: first-phase scores of the reranked documents.
        after: their new scores.
        rest: first-phase scores of the others.
    """
    if not before or min(before) <= min(after):
        return list(rest)
    old_range = max(max(before) - min(before), 1.0)
    new_range = max(max(after) - min(after), 1.0)
    scale = new_range / old_range
    adjust = min(before) * scale - min(after)
    return [score * scale - adjust for score in rest]
