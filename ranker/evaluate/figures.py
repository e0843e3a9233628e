"""From rankings to figures: measures, latencies, comparisons, and the documents to show."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ranker.contract.encode import sanitize_text
from ranker.dataset import Dataset
from ranker.evaluate.searching import RankedQuery
from ranker.metrics.measures import per_query
from ranker.metrics.significance import compare_all, intervals

__all__ = ["GAIN", "comparisons", "counts", "profile_figures", "shown_hits"]

GAIN = (
    "nDCG as trec_eval defines it: the gain is the grade itself, the discount log2(rank + 1); "
    "for the other measures a grade of 1 or more is relevant, unless they name another (rel=); "
    "documents with equal scores are ordered by a hash of query and document id"
)
PERCENTILES = (50, 90, 95, 99)
SHOWN = 10
EXCERPT = 300

Figures = dict[str, Any]


def counts(dataset: Dataset) -> Figures:
    """Count what is judged in a collection."""
    grades = Counter(grade for row in dataset.qrels.values() for grade in row.values())
    return {
        "name": dataset.name,
        "split": dataset.split,
        "sha256": dataset.sha256,
        "documents": len(dataset.documents),
        "queries": len(dataset.qrels),
        "queries_without_relevant": sum(not any(row.values()) for row in dataset.qrels.values()),
        "bad_rows_left_out": dataset.skipped_total,
        "judgements": grades.total(),
        "judgements_by_grade": {str(grade): grades[grade] for grade in sorted(grades)},
    }


def profile_figures(
    dataset: Dataset, rankings: Sequence[RankedQuery], *, profile: str, measures: Sequence[str]
) -> Figures:
    """Compute the figures of one profile: measures with intervals, latencies, hits."""
    own = [ranking for ranking in rankings if ranking.profile == profile]
    run = {ranking.query_id: dict(ranking.hits) for ranking in own}
    values = per_query(dataset.qrels, run, measures)
    table = np.array([list(values[name].values()) for name in measures])
    ends = intervals(table)  # all measures in one call, so with the same resamples
    doc_ids = [doc_id for ranking in own for doc_id, _ in ranking.hits]
    return {
        "mean": {name: float(row.mean()) for name, row in zip(measures, table, strict=True)},
        "interval": {
            name: [float(low), float(high)]
            for name, (low, high) in zip(measures, ends, strict=True)
        },
        "per_query": values,
        "latency_ms": _latency([ranking.latency_ms for ranking in own]),
        "server_ms": _latency([a.server_ms for a in own if a.server_ms is not None]),
        "hits": len(doc_ids),
        "queries_without_hits": [ranking.query_id for ranking in own if not ranking.hits],
        "unknown_hits": sum(doc_id not in dataset.documents for doc_id in doc_ids),
    }


def comparisons(
    figures: Mapping[str, Figures], *, baseline: str, measure: str
) -> list[dict[str, Any]]:
    """Compare every profile with the baseline on one measure, corrected for their number.

    Only the first measure is tested: the others say nearly the same, and with all of them tested,
    hardly any difference would survive Holm's correction.
    """
    values = {profile: row["per_query"][measure] for profile, row in figures.items()}
    pairs = [(baseline, profile) for profile in figures if profile != baseline]
    return compare_all(values, pairs, measure=measure)


def shown_hits(dataset: Dataset, rankings: Iterable[RankedQuery]) -> dict[str, Any]:
    """Collect the best documents of every query and profile, and once each document's text."""
    queries: dict[str, Any] = {}
    documents: dict[str, Any] = {}
    for ranking in rankings:
        query = dataset.queries[ranking.query_id]
        grades = dataset.qrels[ranking.query_id]
        entry = queries.setdefault(
            query.query_id, {"text": sanitize_text(query.text), "profiles": {}}
        )
        entry["profiles"][ranking.profile] = [
            {"doc_id": doc_id, "score": score, "relevance": grades.get(doc_id)}
            for doc_id, score in ranking.hits[:SHOWN]
        ]
        for doc_id, _ in ranking.hits[:SHOWN]:
            documents.setdefault(doc_id, _words(dataset, doc_id))
    return {"queries": queries, "documents": documents}


def _words(dataset: Dataset, doc_id: str) -> dict[str, str] | None:
    document = dataset.documents.get(doc_id)
    if document is None:
        return None
    return {"title": sanitize_text(document.title), "excerpt": _excerpt(document.text)}


def _excerpt(text: str) -> str:
    """Return the first words of a text, on one line."""
    # Four characters for each one: enough to fill the excerpt even if the text is mostly spaces.
    words = " ".join(sanitize_text(text[: 4 * EXCERPT]).split())
    if len(words) <= EXCERPT:
        return words
    whole, _, _ = words[:EXCERPT].rpartition(" ")
    return (whole or words[:EXCERPT]) + "…"


def _latency(values: Sequence[float]) -> Figures | None:
    """Compute percentiles of latencies in milliseconds; None if there are none."""
    if not values:
        return None
    marks = np.percentile(values, PERCENTILES)
    return {
        **{f"p{at}": float(mark) for at, mark in zip(PERCENTILES, marks, strict=True)},
        "mean": float(np.mean(values)),
        "max": float(np.max(values)),
    }
