"""Answers to figures: measures, latencies, comparisons, and the documents to show.  All pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ranker.contract.encode import sanitize_text
from ranker.dataset import Dataset
from ranker.evaluate.searching import Answer
from ranker.metrics.measures import per_query
from ranker.metrics.significance import compare_all, intervals

__all__ = ["GAIN", "comparisons", "counts", "profile_figures", "shown_hits"]

GAIN = (
    "nDCG as trec_eval defines it: the gain is the grade itself, the discount log2(rank + 1); "
    "the other measures take a grade of 1 or more as relevant, unless they name another (rel=); "
    "documents of equal score are ordered by a hash of query and document id"
)
PERCENTILES = (50, 90, 95, 99)
SHOWN = 10
EXCERPT = 300

Figures = dict[str, Any]


def counts(dataset: Dataset) -> Figures:
    """What was judged."""
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
    dataset: Dataset, answers: Sequence[Answer], *, profile: str, measures: Sequence[str]
) -> Figures:
    """Figures of one profile: measures with intervals, latencies, what came back."""
    own = [answer for answer in answers if answer.profile == profile]
    run = {answer.query_id: dict(answer.hits) for answer in own}
    values = per_query(dataset.qrels, run, measures)
    table = np.array([list(values[name].values()) for name in measures])
    ends = intervals(table)
    return {
        "mean": {name: float(row.mean()) for name, row in zip(measures, table, strict=True)},
        "interval": {
            name: [float(low), float(high)]
            for name, (low, high) in zip(measures, ends, strict=True)
        },
        "per_query": values,
        "latency_ms": _latency([answer.latency_ms for answer in own]),
        "server_ms": _latency([a.server_ms for a in own if a.server_ms is not None]),
        **_returned(dataset, own),
    }


def comparisons(
    figures: Mapping[str, Figures], *, baseline: str, measure: str
) -> list[dict[str, Any]]:
    """Every profile against the baseline on one measure, corrected for their number.

    Only the first measure is tested: the others say nearly the same thing, and testing them all
    would make Holm's correction blind.
    """
    values = {profile: row["per_query"][measure] for profile, row in figures.items()}
    pairs = [(baseline, profile) for profile in figures if profile != baseline]
    return compare_all(values, pairs, measure=measure)


def shown_hits(dataset: Dataset, answers: Iterable[Answer]) -> dict[str, Any]:
    """The best documents of every query and profile, each document's words once."""
    queries: dict[str, Any] = {}
    documents: dict[str, Any] = {}
    for answer in answers:
        query = dataset.queries[answer.query_id]
        grades = dataset.qrels[answer.query_id]
        entry = queries.setdefault(
            query.query_id, {"text": sanitize_text(query.text), "profiles": {}}
        )
        entry["profiles"][answer.profile] = [
            {"doc_id": doc_id, "score": score, "relevance": grades.get(doc_id)}
            for doc_id, score in answer.hits[:SHOWN]
        ]
        for doc_id, _ in answer.hits[:SHOWN]:
            documents.setdefault(doc_id, _words(dataset, doc_id))
    return {"queries": queries, "documents": documents}


def _words(dataset: Dataset, doc_id: str) -> dict[str, str] | None:
    document = dataset.documents.get(doc_id)
    if document is None:
        return None
    return {"title": sanitize_text(document.title), "excerpt": _excerpt(document.text)}


def _excerpt(text: str) -> str:
    """The first words of a text, on one line."""
    # Four characters for one: enough to fill the excerpt even where the text is mostly blanks.
    words = " ".join(sanitize_text(text[: 4 * EXCERPT]).split())
    if len(words) <= EXCERPT:
        return words
    whole, _, _ = words[:EXCERPT].rpartition(" ")
    return (whole or words[:EXCERPT]) + "…"


def _latency(values: Sequence[float]) -> Figures | None:
    """Percentiles of latencies in milliseconds; None where there are none."""
    if not values:
        return None
    marks = np.percentile(values, PERCENTILES)
    return {
        **{f"p{at}": float(mark) for at, mark in zip(PERCENTILES, marks, strict=True)},
        "mean": float(np.mean(values)),
        "max": float(np.max(values)),
    }


def _returned(dataset: Dataset, answers: Sequence[Answer]) -> Figures:
    found = [doc_id for answer in answers for doc_id, _ in answer.hits]
    return {
        "hits": len(found),
        "queries_without_hits": [answer.query_id for answer in answers if not answer.hits],
        "unknown_hits": sum(doc_id not in dataset.documents for doc_id in found),
    }
