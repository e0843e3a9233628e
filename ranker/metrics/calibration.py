"""Logits as probabilities of relevance, learned from queries that the model did not see.

Platt scaling: a logistic regression on the logit (Platt, Probabilistic Outputs for Support Vector
Machines, 1999).  The pairs are the documents that are reranked; an unjudged one counts as not
relevant, as in trec_eval, so the probability is that of being judged relevant.  Each pair counts
once: a threshold is applied to pairs, and nearly all queries have the same number of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.errors import require
from ranker.metrics.measures import Qrels, Run

__all__ = ["LEAST_QUERIES", "LEAST_RELEVANT", "THRESHOLDS", "calibrate", "parts_of"]

LEAST_QUERIES = 30
"""Least number of queries with a relevant document among those reranked."""
LEAST_RELEVANT = 50
"""Least number of relevant documents among those reranked."""
BINS = 10
PARTS = 10
"""Parts of the queries for cross-fitting where there are no folds."""
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
DIGITS = 6
"""Significant digits of what is learned: few enough to read, far more than the data decides."""

_Numbers = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Pairs:
    """Reranked documents, [pairs] each.

    Attributes:
        logits: of the model.
        relevant: whether the grade is at least the minimum.
        query: row of the query.
        part: part of the query; figures of a part come from a fit on the others.
        queries: number of queries, with those for which nothing is reranked.
    """

    logits: _Numbers
    relevant: _Flags
    query: npt.NDArray[np.int64]
    part: npt.NDArray[np.int64]
    queries: int


def parts_of(qrels: Qrels) -> dict[str, int]:
    """Deal the queries to parts for cross-fitting."""
    return {query_id: at % PARTS for at, query_id in enumerate(qrels)}


def calibrate(
    qrels: Qrels, logits: Run, parts: Mapping[str, int], *, min_grade: int
) -> dict[str, Any]:
    """Learn the probability of relevance from logits, and measure it.

    Args:
        qrels: the judged queries.
        logits: of the reranked documents, by models that did not learn from the query.
        parts: part of each query, such as its fold.  Each part is measured with a fit on the
            others.
        min_grade: least grade of a relevant document.

    Returns:
        `calibration`: `slope`, `intercept`, what they rest on, and how good they are (`_figures`);
        None if they cannot be learned.  `uncalibrated`: the reason in words then, otherwise None.

    Raises:
        MissingExtra: scipy is not installed.
    """
    pairs = _pairs(qrels, logits, parts, min_grade)
    queries, relevant = len(np.unique(pairs.query[pairs.relevant])), int(pairs.relevant.sum())
    if queries < LEAST_QUERIES or relevant < LEAST_RELEVANT:
        return _uncalibrated(
            f"only {relevant} relevant documents of {queries} queries are among those reranked; a "
            f"calibration needs at least {LEAST_RELEVANT} of at least {LEAST_QUERIES} queries"
        )
    slope, intercept = _fit(pairs.logits, pairs.relevant)
    if slope <= 0:
        return _uncalibrated(f"a higher logit is not more often relevant (slope {slope:.2g})")
    return {
        "calibration": {
            "slope": _short(slope),
            "intercept": _short(intercept),
            "min_grade": min_grade,
            "queries": len(qrels),
            "pairs": len(pairs.logits),
            "relevant": relevant,
            **_figures(pairs),
        },
        "uncalibrated": None,
    }


def _uncalibrated(reason: str) -> dict[str, Any]:
    return {"calibration": None, "uncalibrated": reason}


def _pairs(qrels: Qrels, logits: Run, parts: Mapping[str, int], min_grade: int) -> _Pairs:
    rows = [
        (logit, grades.get(doc_id, 0) >= min_grade, at, parts[query_id])
        for at, (query_id, grades) in enumerate(qrels.items())
        for doc_id, logit in logits.get(query_id, {}).items()
    ]
    table = np.array(rows, dtype=float).reshape(-1, 4)
    query, part = table[:, 2:].T.astype(int)
    return _Pairs(table[:, 0], table[:, 1].astype(bool), query, part, len(qrels))


def _fit(logits: _Numbers, relevant: _Flags) -> tuple[float, float]:
    """Return slope and intercept; the slope is 0 where all logits are equal.

    The targets are Platt's: as if there were one more pair of each kind, so that logits which
    separate the two perfectly give a finite slope.
    """
    spread = float(logits.std())
    if not spread:
        return 0.0, 0.0
    scaled = (logits - logits.mean()) / spread
    positive, negative = int(relevant.sum()), int((~relevant).sum())
    targets = np.where(relevant, (positive + 1) / (positive + 2), 1 / (negative + 2))
    inputs = np.stack([scaled, np.ones_like(scaled)])
    expit = require("scipy.special", extra="evaluate").expit

    def loss(weights: _Numbers) -> float:
        odds = weights @ inputs
        return float(np.mean(np.logaddexp(0, odds) - targets * odds))

    def gradient(weights: _Numbers) -> _Numbers:
        error: _Numbers = inputs @ (expit(weights @ inputs) - targets) / len(targets)
        return error

    def curvature(weights: _Numbers) -> _Numbers:
        share = expit(weights @ inputs)
        matrix: _Numbers = (inputs * (share * (1 - share))) @ inputs.T / len(targets)
        return matrix

    start = np.array([0.0, np.log((positive + 1) / (negative + 1))])
    slope, intercept = (
        require("scipy.optimize", extra="evaluate")
        .minimize(
            loss, start, jac=gradient, hess=curvature, method="trust-exact", options={"gtol": 1e-9}
        )
        .x
    )
    return float(slope / spread), float(intercept - slope * logits.mean() / spread)


def _figures(pairs: _Pairs) -> dict[str, Any]:
    """Return how good the probabilities are, where each part has those of a fit on the others.

    `base_rate` is the share of relevant pairs, `brier` and `log_loss` are the means of the two
    scores, `base_rate_brier` and `base_rate_log_loss` those of the other parts' base rate as a
    constant.  `reliability` has bins of equal size by probability, `thresholds` what a least
    probability keeps.
    """
    odds, constant = np.zeros(len(pairs.logits)), np.zeros(len(pairs.logits))
    for part in np.unique(pairs.part):
        own = pairs.part == part
        slope, intercept = _fit(pairs.logits[~own], pairs.relevant[~own])
        odds[own] = slope * pairs.logits[own] + intercept
        positive, negative = int(pairs.relevant[~own].sum()), int((~pairs.relevant[~own]).sum())
        constant[own] = np.log((positive + 1) / (negative + 1))
    expit = require("scipy.special", extra="evaluate").expit
    probabilities: _Numbers = expit(odds)
    return {
        "base_rate": float(pairs.relevant.mean()),
        "brier": _brier(probabilities, pairs.relevant),
        "base_rate_brier": _brier(expit(constant), pairs.relevant),
        "log_loss": _log_loss(odds, pairs.relevant),
        "base_rate_log_loss": _log_loss(constant, pairs.relevant),
        "reliability": _reliability(probabilities, pairs.relevant),
        "thresholds": [_kept(probabilities, pairs, least) for least in THRESHOLDS],
    }


def _brier(probabilities: _Numbers, relevant: _Flags) -> float:
    return float(np.mean((probabilities - relevant) ** 2))


def _log_loss(odds: _Numbers, relevant: _Flags) -> float:
    return float(np.mean(np.logaddexp(0, odds) - relevant * odds))


def _reliability(probabilities: _Numbers, relevant: _Flags) -> list[dict[str, float]]:
    """Return bins of equal size, from the lowest probabilities to the highest."""
    order = np.argsort(probabilities, kind="stable")
    return [
        {
            "predicted": float(probabilities[rows].mean()),
            "relevant": float(relevant[rows].mean()),
            "pairs": len(rows),
        }
        for rows in np.array_split(order, BINS)
    ]


def _kept(probabilities: _Numbers, pairs: _Pairs, least: float) -> dict[str, float | None]:
    """Return the precision above each probability, and the share of queries with a hit there."""
    kept = probabilities >= least
    return {
        "probability": least,
        "precision": float(pairs.relevant[kept].mean()) if kept.any() else None,
        "pairs": int(kept.sum()),
        "queries": len(np.unique(pairs.query[kept])) / pairs.queries,
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
