"""What BM25 shows about the judgements: holes, answers out of reach, precision of the metrics."""

import math
from collections.abc import Iterator
from statistics import pstdev

from ranker.errors import MissingExtra
from ranker.lint.finding import Finding, Kind, first
from ranker.lint.inspection import DEPTH, Inspection, part, percent
from ranker.metrics.measures import per_query

__all__ = ["KINDS", "find"]

HOLES = Kind(
    "judgement-holes",
    "documents that BM25 ranks high but that are unjudged",
    "A hole counts as not relevant, both in training (as a negative) and in evaluation, so a "
    "ranking that finds new answers looks worse than it is.",
    "Judge the holes in the top 10 first, and also compare rankings by Judged@10. If annotators "
    "looked at all unjudged documents and rejected them, there is nothing to do.",
)
REACH = Kind(
    "answers-out-of-reach",
    "answers that are not among the best 100 of BM25",
    "A reranker only orders what the first phase retrieves, so it cannot recover any of them.",
    "Rerank deeper, or improve the first phase (synonyms, stemming, embeddings next to BM25).",
)
FEW = Kind(
    "few-queries",
    "too few queries to tell a gain from chance",
    "Differences of nDCG@10 smaller than the interval cannot be distinguished from noise, so "
    "tuning decisions would rest on chance.",
    "Judge more queries: four times as many halve the interval. A few judgements for each of many "
    "queries say more than many judgements for a few.",
)

KINDS = (FEW, HOLES, REACH)

DEPTHS = (10, 20, 100)
HOLES_SEEN = 0.1
HOLES_WARN = 0.3
POOLED = 0.1
"""Share of judgements below the minimum grade from which annotators judged pooled rankings."""
OUT_OF_REACH = 0.2
WIDE = 0.04
"""Expected half-width of the interval from which few queries are a warning."""
USUAL_SPREAD = 0.3
PAIRED = 0.6
"""Spread of per-query differences divided by the spread of BM25's own nDCG@10.

Measured between BM25 over titles and BM25 over titles and texts: trec-covid-mini 0.53, Vaswani
0.64, Cranfield 0.82, SciFact 1.04; of a blend that stays near BM25, less than 0.3.
"""


def find(inspection: Inspection) -> Iterator[Finding]:
    """Yield findings that need the ranking of the first phase, or its spread."""
    ranked = inspection.ranked
    values = _ndcg(inspection, ranked) if ranked is not None else []
    yield from _few(inspection, values)
    if ranked is None:
        inspection.skip("what BM25 shows", inspection.unranked, (HOLES, REACH))
        return
    inspection.figures["first_phase"] = {
        "queries": len(ranked),
        "ndcg@10": sum(values) / len(values) if values else None,
        "holes_by_depth": _holes_by_depth(inspection, ranked),
    }
    yield from _holes(inspection, ranked)
    yield from _reach(inspection, ranked)


def _ndcg(inspection: Inspection, ranked: dict[str, list[str]]) -> list[float]:
    """Return the nDCG@10 of BM25 for each query, none if ir_measures is not installed."""
    run = {
        query_id: {doc_id: -float(rank) for rank, doc_id in enumerate(hits)}
        for query_id, hits in ranked.items()
    }
    qrels = {query_id: inspection.collection.qrels[query_id] for query_id in ranked}
    try:
        return list(per_query(qrels, run, ["nDCG@10"])["nDCG@10"].values())
    except MissingExtra as error:
        inspection.skip("nDCG@10 of BM25", str(error), ())
        return []


def _few(inspection: Inspection, values: list[float]) -> Iterator[Finding]:
    queries = len(inspection.collection.qrels)
    spread = pstdev(values) if len(values) > 1 else 0.0
    half = 1.96 * PAIRED * (spread or USUAL_SPREAD) / math.sqrt(queries)
    inspection.figures["half_width"] = half
    if half < WIDE:
        return
    needed = math.ceil(queries * (half / (WIDE / 2)) ** 2)
    yield FEW.finding(
        "warning",
        f"{queries:,} judged {'query' if queries == 1 else 'queries'}: expect differences "
        f"of nDCG@10 to be known to about ±{half:.2f}; ±{WIDE / 2:.2f} would take about {needed:,}",
        count=queries,
        total=0,
        unit="queries",
        figures={"half_width": half, "spread_of_bm25": spread, "needed": needed},
    )


def _holes_by_depth(inspection: Inspection, ranked: dict[str, list[str]]) -> list[float]:
    """Return the share of unjudged documents among the best 1, 2, ... `DEPTH` hits.

    Each is the mean over the queries with at least that many hits; it ends where there are none.
    """
    totals = [0.0] * DEPTH
    counts = [0] * DEPTH
    for query_id, hits in ranked.items():
        judged = inspection.collection.qrels[query_id]
        holes = 0
        for row, doc_id in enumerate(hits):
            holes += doc_id not in judged
            totals[row] += holes / (row + 1)
            counts[row] += 1
    return [total / count for total, count in zip(totals, counts, strict=True) if count]


def _holes(inspection: Inspection, ranked: dict[str, list[str]]) -> Iterator[Finding]:
    qrels = inspection.collection.qrels
    shares = {depth: _share_of_holes(inspection, ranked, depth) for depth in DEPTHS}
    if shares[10] < HOLES_SEEN:
        return
    pooled = inspection.judged_negatives >= POOLED * sum(map(len, qrels.values()))
    shown = ", ".join(f"{percent(share)} of the top {depth}" for depth, share in shares.items())
    top = {query_id: hits[:10] for query_id, hits in ranked.items()}
    empty = {q: sum(d not in qrels[q] for d in hits) for q, hits in top.items()}
    worst = sorted((q for q in top if empty[q]), key=lambda q: -empty[q])
    yield HOLES.finding(
        "warning" if pooled and shares[10] >= HOLES_WARN else "note",
        f"unjudged under BM25: {shown}",
        count=sum(empty.values()),
        total=sum(map(len, top.values())),
        unit="hits in the top 10",
        examples=first(
            (inspection.query_example(q, f"{empty[q]} of {len(top[q])} not judged") for q in worst),
            inspection.examples,
        )
        if pooled
        else (),
        figures={**{f"top_{depth}": share for depth, share in shares.items()}, "pooled": pooled},
    )


def _share_of_holes(inspection: Inspection, ranked: dict[str, list[str]], depth: int) -> float:
    """Return the share of unjudged documents among all hits down to a depth."""
    qrels = inspection.collection.qrels
    pairs = [(q, doc_id) for q, hits in ranked.items() for doc_id in hits[:depth]]
    return sum(d not in qrels[q] for q, d in pairs) / len(pairs) if pairs else 0.0


def _reach(inspection: Inspection, ranked: dict[str, list[str]]) -> Iterator[Finding]:
    answers = [(q, doc_id) for q in ranked for doc_id in inspection.answers(q)]
    reached = {q: set(hits) for q, hits in ranked.items()}
    lost = [(q, doc_id) for q, doc_id in answers if doc_id not in reached[q]]
    if not answers or len(lost) < OUT_OF_REACH * len(answers):
        return
    count = {q: 0 for q in ranked}
    for query_id, _ in lost:
        count[query_id] += 1
    worst = sorted(count, key=lambda q: -count[q])[: inspection.examples]
    yield REACH.finding(
        "note",
        f"{part(len(lost), len(answers))} answers are not among the best {DEPTH} of BM25",
        count=len(lost),
        total=len(answers),
        unit="answers",
        examples=[
            inspection.query_example(q, f"{count[q]} of {len(inspection.answers(q))} answers")
            for q in worst
            if count[q]
        ],
    )
