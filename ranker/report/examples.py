"""The queries with the largest gains and losses, and the best documents of both profiles."""

from collections.abc import Mapping, Sequence
from typing import Any

from ranker.evaluate import Evaluation
from ranker.metrics.significance import TIE
from ranker.report import numbers, words

__all__ = ["examples", "query_table"]

View = dict[str, Any]

QUERIES = 5
DOCUMENTS = 5
MOST_ROWS = 500


def examples(evaluation: Evaluation, hits: Mapping[str, Any]) -> View | None:
    """Return the queries on which the best other profile gains and loses most."""
    best = words.challenger(evaluation)
    if best is None:
        return None
    gains = _gains(evaluation, best["profile"])
    return {
        "baseline": evaluation.baseline,
        "profile": best["profile"],
        "groups": [
            {
                "title": f"Where {best['profile']} wins most",
                "none": f"{best['profile']} is not better on any query.",
                "rows": [
                    _example(evaluation, hits, query_id, best["profile"])
                    for query_id, gain in reversed(gains[-QUERIES:])
                    if gain > 0
                ],
            },
            {
                "title": f"Where {best['profile']} loses most",
                "none": f"{best['profile']} is not worse on any query.",
                "rows": [
                    _example(evaluation, hits, query_id, best["profile"])
                    for query_id, gain in gains[:QUERIES]
                    if gain < 0
                ],
            },
        ],
    }


def query_table(evaluation: Evaluation, hits: Mapping[str, Any]) -> View:
    """Return the measure of every query and profile; the queries that lose most come first."""
    best = words.challenger(evaluation)
    # Without a comparison all gains are 0, and the order is that of the ids.
    profile = evaluation.baseline if best is None else best["profile"]
    measure = evaluation.measures[0]
    values = {name: evaluation.per_query(name, measure) for name in evaluation.profiles}
    order = [query_id for query_id, _ in _gains(evaluation, profile)]
    return {
        "profiles": evaluation.profiles,
        "left_out": max(0, len(order) - MOST_ROWS),
        "rows": [
            {
                "query_id": query_id,
                "text": hits["queries"][query_id]["text"],
                "values": [numbers.number(values[name][query_id]) for name in evaluation.profiles],
            }
            for query_id in order[:MOST_ROWS]
        ],
    }


def _gains(evaluation: Evaluation, profile: str) -> list[tuple[str, float]]:
    """Return query ids with their gain over the baseline, the worst first."""
    measure = evaluation.measures[0]
    base = evaluation.per_query(evaluation.baseline, measure)
    own = evaluation.per_query(profile, measure)
    gains = {query_id: value - base[query_id] for query_id, value in own.items()}
    clean = {query_id: 0.0 if abs(gain) <= TIE else gain for query_id, gain in gains.items()}
    return sorted(clean.items(), key=lambda item: (item[1], item[0]))


def _example(evaluation: Evaluation, hits: Mapping[str, Any], query_id: str, profile: str) -> View:
    measure, base = evaluation.measures[0], evaluation.baseline
    before = evaluation.per_query(base, measure)[query_id]
    after = evaluation.per_query(profile, measure)[query_id]
    entry = hits["queries"][query_id]
    ids = {name: [hit["doc_id"] for hit in entry["profiles"][name]] for name in (base, profile)}
    return {
        "query_id": query_id,
        "text": entry["text"],
        "before": numbers.number(before),
        "after": numbers.number(after),
        "gain": numbers.signed(after - before),
        "won": after > before,
        "columns": [
            {
                "name": name,
                "documents": _documents(entry["profiles"][name], hits, others=ids[other]),
                "other": other,
            }
            for name, other in ((base, profile), (profile, base))
        ],
    }


def _documents(
    ranked: Sequence[Mapping[str, Any]], hits: Mapping[str, Any], *, others: Sequence[str]
) -> list[View]:
    return [
        {
            "doc_id": hit["doc_id"],
            **_words(hits["documents"].get(hit["doc_id"]), hit["doc_id"]),
            "grade": hit["relevance"],
            "elsewhere": _elsewhere(hit["doc_id"], others),
        }
        for hit in ranked[:DOCUMENTS]
    ]


def _words(document: Mapping[str, str] | None, doc_id: str) -> View:
    if document is None:
        return {"title": doc_id, "excerpt": "(not in the dataset)"}
    return {"title": document["title"] or doc_id, "excerpt": document["excerpt"]}


def _elsewhere(doc_id: str, others: Sequence[str]) -> str:
    """Say at which rank the other profile has this document."""
    if doc_id in others:
        return f"rank {others.index(doc_id) + 1}"
    return f"below rank {len(others)}" if others else "no hits"
