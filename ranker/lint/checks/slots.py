"""Texts that the slots truncate: how many, how much is lost, and if answers lose more."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.contract.encode import document_text
from ranker.lint.finding import Finding, Kind
from ranker.lint.inspection import Inspection, mean_difference, part, percent, sample

__all__ = ["KINDS", "find"]

CUT_DOCUMENTS = Kind(
    "cut-documents",
    "documents that are longer than their slots",
    "The model never sees the truncated part, neither in training nor in serving.",
    "Put what matters first, split documents into passages, or give them more slots "
    "(--document-slots; the cost of a pair is proportional to its actual length).",
)
CUT_QUERIES = Kind(
    "cut-queries",
    "queries that are longer than their slots",
    "The model sees only part of the question.",
    "Give queries more slots (--query-slots).",
)
ANSWERS_CUT = Kind(
    "answers-cut-more",
    "answers that lose more to truncation than other documents",
    "What makes a document an answer is truncated more often than the text of other documents.",
    "Give documents more slots (--document-slots), or split them into passages.",
)

KINDS = (CUT_QUERIES, CUT_DOCUMENTS, ANSWERS_CUT)

SAMPLE = 20_000
QUICK_SAMPLE = 2_000
QUERIES = 2_000
QUICK_QUERIES = 300
CHUNK = 1_000
OTHERS = 10
"""Number of unjudged documents that stand for the negatives, if none are judged."""
SEEN = 0.05
LOST = 0.25
"""Share of lost tokens from which truncation is a warning."""
QUERIES_CUT = 0.05
MORE = 0.03
"""Difference of the lost shares from which it is reported."""
BINS = 30

Lengths = Mapping[str, int]


def find(inspection: Inspection) -> Iterator[Finding]:
    """Yield findings about texts that do not fit."""
    if inspection.encoder is None:
        inspection.skip("texts truncated by the slots", inspection.no_encoder, KINDS)
        return
    documents = inspection.collection.documents
    chosen = sample(documents, QUICK_SAMPLE if inspection.quick else SAMPLE)
    sides = _sides(inspection)
    compared = (doc_id for pair in sides for side in pair for doc_id in side)
    lengths = _lengths(inspection, dict.fromkeys([*chosen, *compared]))
    yield from _queries(inspection)
    yield from _documents(inspection, {doc_id: lengths[doc_id] for doc_id in chosen})
    yield from _answers(inspection, lengths, sides)


def _lengths(inspection: Inspection, doc_ids: Iterable[str]) -> dict[str, int]:
    """Return the number of tokens of documents before truncation."""
    encoder = inspection.encoder
    assert encoder is not None
    ids = list(doc_ids)
    lengths: dict[str, int] = {}
    for start in range(0, len(ids), CHUNK):
        own = ids[start : start + CHUNK]
        texts = [document_text(inspection.collection.documents[d], encoder.spec) for d in own]
        lengths |= dict(zip(own, encoder.count(texts), strict=True))
    return lengths


def _queries(inspection: Inspection) -> Iterator[Finding]:
    encoder = inspection.encoder
    assert encoder is not None
    query_ids = list(inspection.collection.qrels)
    counts = encoder.count([inspection.text(query_id) for query_id in query_ids])
    slots = encoder.spec.query_tokens
    long = sorted(
        ((count, q) for q, count in zip(query_ids, counts, strict=True) if count > slots),
        reverse=True,
    )
    inspection.figures["query_tokens"] = _histogram(np.array(counts), slots)
    if long:
        yield CUT_QUERIES.finding(
            "warning" if len(long) >= QUERIES_CUT * len(query_ids) else "note",
            f"{part(len(long), len(query_ids))} judged queries have more than {slots} tokens, the "
            f"longest {long[0][0]:,}",
            count=len(long),
            total=len(query_ids),
            unit="queries",
            examples=[
                inspection.query_example(query_id, f"{count:,} tokens")
                for count, query_id in long[: inspection.examples]
            ],
        )


def _documents(inspection: Inspection, lengths: Lengths) -> Iterator[Finding]:
    encoder = inspection.encoder
    assert encoder is not None
    slots, counts = encoder.spec.document_tokens, np.array(list(lengths.values()))
    over = np.maximum(counts - slots, 0)
    cut, lost = int((over > 0).sum()), float(over.sum() / max(counts.sum(), 1))
    inspection.figures["document_tokens"] = {
        **_histogram(counts, slots),
        "cut": cut / len(counts),
        "lost": lost,
    }
    if cut < SEEN * len(counts):
        return
    whole = len(lengths) == len(inspection.collection.documents)
    worst = sorted(lengths, key=lambda doc_id: -lengths[doc_id])[: inspection.examples]
    yield CUT_DOCUMENTS.finding(
        "warning" if lost >= LOST else "note",
        f"{part(cut, len(counts))} {'' if whole else 'sampled '}documents have more than {slots} "
        f"tokens; {percent(lost)} of all tokens are truncated",
        count=cut,
        total=len(counts),
        unit="documents",
        examples=[
            inspection.document_example(doc_id, _beginning(inspection, doc_id, lengths[doc_id]))
            for doc_id in worst
        ],
        figures={"lost": lost, "median": float(np.median(counts)), "slots": slots},
    )


def _answers(
    inspection: Inspection, lengths: Lengths, sides: list[tuple[list[str], list[str]]]
) -> Iterator[Finding]:
    """Compare what answers and other documents lose, query by query."""
    encoder = inspection.encoder
    assert encoder is not None
    slots = encoder.spec.document_tokens
    differences = [
        _lost([lengths[d] for d in answers], slots) - _lost([lengths[d] for d in others], slots)
        for answers, others in sides
    ]
    if not inspection.judged_negatives and inspection.ranked is None:
        inspection.skip("what answers lose", inspection.unranked, (ANSWERS_CUT,))
    if (difference := mean_difference(differences)) is None:
        return
    mean, low, high = difference
    figures = {"difference": mean, "interval": [low, high], "queries": len(differences)}
    inspection.figures["answers_cut"] = figures
    if mean < MORE or low <= 0:
        return
    against = (
        "documents judged not relevant" if inspection.judged_negatives else "other hits of BM25"
    )
    yield ANSWERS_CUT.finding(
        "warning",
        f"answers lose {100 * mean:.0f} points more of their tokens than {against} "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f}, {len(differences)} queries)",
        count=len(differences),
        total=len(inspection.collection.qrels),
        unit="queries",
        figures=figures,
    )


def _sides(inspection: Inspection) -> list[tuple[list[str], list[str]]]:
    """Return answers and other documents of every query that has both.

    Others are those judged not relevant or, if there are none, unjudged ones that BM25 ranks high.
    """
    sides = []
    ranked = None if inspection.judged_negatives else inspection.ranked
    qrels = inspection.collection.qrels
    for query_id in sample(qrels, QUICK_QUERIES if inspection.quick else QUERIES):
        grades, others = qrels[query_id], inspection.others(query_id)
        if ranked is not None:
            others = [doc_id for doc_id in ranked.get(query_id, ()) if doc_id not in grades][
                :OTHERS
            ]
        if (answers := inspection.answers(query_id)) and others:
            sides.append((answers, others))
    return sides


def _lost(counts: list[int], slots: int) -> float:
    """Return the mean share of the tokens that are truncated."""
    return float(np.mean([max(0, count - slots) / count if count else 0.0 for count in counts]))


def _histogram(counts: npt.NDArray[np.int64], slots: int) -> dict[str, Any]:
    """Count texts by number of tokens, in bins of equal width; the last one holds all the rest."""
    top = max(float(np.quantile(counts, 0.98)), 1.25 * slots)
    width = max(1, math.ceil(top / BINS))
    bins = np.bincount(np.minimum(counts // width, BINS - 1), minlength=BINS)
    return {
        "slots": slots,
        "width": width,
        "counts": bins.tolist(),
        "median": float(np.median(counts)),
        "longest": int(counts.max()),
    }


def _beginning(inspection: Inspection, doc_id: str, tokens: int) -> str:
    example = inspection.document_example(doc_id)
    return f"{tokens:,} tokens: {example.text}"
