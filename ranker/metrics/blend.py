"""The weight of the logit in the blend of BM25 and cross-encoder, learned from queries.

The raw sum is what a second phase can express.  On SciFact its form mattered little (raw 0.753,
z-normalised 0.758, min-max 0.751 nDCG@10), its weight a lot.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranker.artifacts.profile import blend
from ranker.metrics.measures import Qrels, Run, per_query

__all__ = ["UNLEARNED", "WEIGHTS", "HeldOut", "blend_run", "held_out_figures", "learn_weight"]

WEIGHTS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
SCALES = (0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.5)
"""Sharpness of the softmax over a query's documents; it is fitted with the weight, not kept."""
UNLEARNED = 1.0
"""The weight if nothing shows which one is better."""


@dataclass(frozen=True)
class HeldOut:
    """nDCG@10 on queries that training did not see.

    The blend's figure is honest: each query is blended with the weight that the others chose.

    Attributes:
        queries: number of queries.
        bm25, cross, blend: mean nDCG@10 of the first phase, reranked by the logit, by the blend.
        blend_weight: the weight that all of them choose.
        recommended_profile: the best of the three; BM25 if none is better.
    """

    queries: int
    bm25: float
    cross: float
    blend: float
    blend_weight: float
    recommended_profile: str


def blend_run(bm25: Run, logits: Run, weight: float) -> dict[str, dict[str, float]]:
    """Return the blend's score of every document of the first phase."""
    profile = blend(weight)
    return {
        query_id: {
            doc_id: profile.score(score, logits[query_id][doc_id]) for doc_id, score in row.items()
        }
        for query_id, row in bm25.items()
    }


def learn_weight(qrels: Qrels, bm25: Run, logits: Run) -> float:
    """Return the weight of the grid under which the judgements are most likely.

    A softmax over `scale` times the blend's scores of a query's documents is compared with the
    grades' share (ListNet, Cao et al. 2007), which uses every document.  The weight with the
    best nDCG@10 of a few dozen queries is mostly luck: chosen without a fifth of 18 queries it
    ran from 0.5 to 12, this one from 0.75 to 2.
    """
    return _likeliest(_losses(qrels, bm25, logits).sum(axis=0))


def held_out_figures(qrels: Qrels, bm25: Run, logits: Run) -> HeldOut:
    """Return the figures of BM25, cross and blend on held-out queries, and the weight to ship."""
    losses = _losses(qrels, bm25, logits)
    total = losses.sum(axis=0)
    queries = list(qrels)
    by_weight = {
        weight: per_query(qrels, blend_run(bm25, logits, weight), ["nDCG@10"])["nDCG@10"]
        for weight in {_likeliest(total - own) for own in losses}
    }
    means = {
        "bm25": _mean(per_query(qrels, bm25, ["nDCG@10"])["nDCG@10"]),
        "cross": _mean(per_query(qrels, logits, ["nDCG@10"])["nDCG@10"]),
        "blend": float(
            np.mean(
                [
                    by_weight[_likeliest(total - own)][query_id]
                    for query_id, own in zip(queries, losses, strict=True)
                ]
            )
        ),
    }
    # max() takes the first of equals: the cheapest profile wins a tie.
    return HeldOut(
        len(queries),
        **means,
        blend_weight=_likeliest(total),
        recommended_profile=max(means, key=lambda name: means[name]),
    )


def _losses(qrels: Qrels, bm25: Run, logits: Run) -> npt.NDArray[np.float64]:
    """Return the cross-entropy [queries, weights, scales]; 0 without a relevant document."""
    losses = np.zeros((len(qrels), len(WEIGHTS), len(SCALES)))
    profiles = [blend(weight) for weight in WEIGHTS]
    scales = np.array(SCALES)[:, None]
    for row, (query_id, judged) in enumerate(qrels.items()):
        retrieved = bm25.get(query_id, {})
        gains = np.array([max(judged.get(doc_id, 0), 0) for doc_id in retrieved], dtype=float)
        if not gains.sum():
            continue
        first = np.array(list(retrieved.values()))
        second = np.array([logits[query_id][doc_id] for doc_id in retrieved])
        blended = np.stack([profile.score(first, second) for profile in profiles])
        scores = scales * blended[:, None]
        scores -= scores.max(axis=2, keepdims=True)
        log_share = scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))
        losses[row] = -(log_share * (gains / gains.sum())).sum(axis=2)
    return losses


def _likeliest(losses: npt.NDArray[np.float64]) -> float:
    """Return the weight of the smallest loss [weights, scales]."""
    if not losses.any():
        return UNLEARNED
    return WEIGHTS[int(np.unravel_index(np.argmin(losses), losses.shape)[0])]


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values())))
