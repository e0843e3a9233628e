"""The blend of BM25 and cross-encoder: `bm25 + weight * logit`, its weight learned from queries.

The raw sum is what a second phase can say.  On SciFact its form mattered little (raw 0.753,
z-normalised 0.758, min-max 0.751 nDCG@10), its weight a lot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ranker.measures import Qrels, Run, per_query

__all__ = ["WEIGHTS", "HeldOut", "blend_run", "held_out_figures", "learn_weight"]

WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)


@dataclass(frozen=True)
class HeldOut:
    """nDCG@10 on queries that training did not see.

    The blend's figure is honest: each fifth of the queries is blended with the weight that the
    other four chose.

    Attributes:
        queries: how many.
        bm25, cross, blend: mean nDCG@10 of the first phase, reranked by the logit, by the blend.
        blend_weight: the weight that all of them choose.
        recommended_profile: the best of the three; BM25 where nothing is better.
    """

    queries: int
    bm25: float
    cross: float
    blend: float
    blend_weight: float
    recommended_profile: str


def blend_run(bm25: Run, logits: Run, weight: float) -> dict[str, dict[str, float]]:
    """`bm25 + weight * logit` for every document of the first phase."""
    return {
        query_id: {
            doc_id: score + weight * logits[query_id][doc_id] for doc_id, score in row.items()
        }
        for query_id, row in bm25.items()
    }


def learn_weight(qrels: Qrels, bm25: Run, logits: Run) -> float:
    """The weight of the grid with the highest mean nDCG@10, smoothed over its neighbours.

    A single best point of a few dozen queries is mostly luck; the mean with the points on
    either side is not.
    """
    table = _by_weight(qrels, bm25, logits)
    return _choose(table, list(qrels))


def held_out_figures(qrels: Qrels, bm25: Run, logits: Run, *, folds: int = 5) -> HeldOut:
    """Figures of BM25, cross and blend on held-out queries, and the weight to ship."""
    table = _by_weight(qrels, bm25, logits)
    queries = sorted(qrels)
    blended = []
    for fold in range(folds):
        inside = queries[fold::folds]
        outside = [query_id for query_id in queries if query_id not in inside] or inside
        weight = _choose(table, outside)
        blended += [table[weight][query_id] for query_id in inside]
    means = {
        "bm25": _mean(per_query(qrels, bm25, ["nDCG@10"])["nDCG@10"], queries),
        "cross": _mean(per_query(qrels, logits, ["nDCG@10"])["nDCG@10"], queries),
        "blend": float(np.mean(blended)),
    }
    # max() takes the first of equals: the cheapest profile wins a tie.
    best = max(means, key=lambda name: means[name])
    return HeldOut(
        len(queries), **means, blend_weight=_choose(table, queries), recommended_profile=best
    )


def _by_weight(qrels: Qrels, bm25: Run, logits: Run) -> dict[float, dict[str, float]]:
    """nDCG@10 by weight and query."""
    return {
        weight: per_query(qrels, blend_run(bm25, logits, weight), ["nDCG@10"])["nDCG@10"]
        for weight in WEIGHTS
    }


def _choose(table: Mapping[float, Mapping[str, float]], queries: Sequence[str]) -> float:
    means = np.array([_mean(table[weight], queries) for weight in WEIGHTS])
    padded = np.pad(means, 1, mode="edge")
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return WEIGHTS[int(np.argmax(smooth))]


def _mean(values: Mapping[str, float], queries: Sequence[str]) -> float:
    return float(np.mean([values[query_id] for query_id in queries]))
