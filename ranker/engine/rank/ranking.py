"""The later phases: the cross-encoder over the best documents of the first, as Vespa runs them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ranker.artifacts.profile import Profile
from ranker.engine.rank.matching import Matched
from ranker.engine.rank.timer import Timer

__all__ = ["Ranked", "Scores", "rerank", "rescale"]

CHUNK = 128
"""Documents between two looks at the clock; the usual 100 documents are one chunk."""

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
    """Return all documents in their final order.

    Args:
        matched: the documents of the first phase, best first.
        profile: says how a score is made; `matched` and `count` suit its phase.
        count: number of documents to rerank.
        logits: the model.
        timer: of the query.

    Raises:
        QueryError: code 12, the query has timed out.
    """
    if profile.phase == "first":
        ranked = [Ranked(m, profile.score(m.contents, math.nan)) for m in matched]
        return sorted(ranked, key=lambda document: -document.relevance)
    top, rest = matched[:count], matched[count:]
    ranked = []
    for start in range(0, len(top), CHUNK):
        timer.check()
        chunk = top[start : start + CHUNK]
        for document, logit in zip(chunk, logits(chunk), strict=True):
            score = profile.score(document.contents, logit)
            ranked.append(Ranked(document, -math.inf if math.isnan(score) else score, logit))
    timer.check()
    before = [document.contents for document in top]
    after = [document.relevance for document in ranked]
    below = rescale(before, after, [document.contents for document in rest])
    ranked += [Ranked(document, score) for document, score in zip(rest, below, strict=True)]
    return sorted(ranked, key=lambda document: -document.relevance)


def rescale(before: Sequence[float], after: Sequence[float], rest: Sequence[float]) -> list[float]:
    """Move the scores of the documents that were not reranked below those of the reranked ones.

    Vespa's rule for both phases (`first_phase_rescorer.cpp`, `RangeAdjuster.java`): the range of
    the old scores is mapped linearly to that of the new ones, where both count as at least 1 wide,
    but only if the lowest old score of the reranked documents is above their lowest new one.

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
