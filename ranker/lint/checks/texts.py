"""Queries and documents that are empty, very short, very long, truncated or repetitive."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np

from ranker.lexical.near_duplicates import normalized
from ranker.lexical.terms import terms
from ranker.lint.finding import Finding, Kind, Severity, clip, first
from ranker.lint.inspection import Inspection, headline, mean_difference, part
from ranker.records import Document

__all__ = ["KINDS", "find"]

EMPTY = Kind(
    "empty-documents",
    "documents without title and text",
    "BM25 cannot retrieve them, and a model sees nothing, even of those that are answers.",
    "Fill in the texts, or leave the documents out.",
)
WITHOUT_TEXT = Kind(
    "documents-without-text",
    "documents with a title only, while others have a text",
    "BM25 and the model see much less of them, so their scores are not comparable.",
    "Check whether the texts are available; otherwise mind the difference in the figures.",
)
WITHOUT_TITLE = Kind(
    "documents-without-title",
    "documents without a title, while others have one",
    "The model sees a title first in some documents, but not in others.",
    "Check whether the titles are at the beginning of the texts.",
)
SHORT_DOCUMENTS = Kind(
    "short-documents",
    "documents of one or two words",
    "They hold too little to tell what they are about.",
    "Check whether a field was lost in the export; otherwise leave them out.",
)
LONG_DOCUMENTS = Kind(
    "long-documents",
    "documents of more than 2,000 words and of ten times the usual length",
    "The model sees only their first tokens, and they may be several documents in one.",
    "Split them into passages with their own ids, and judge the passages.",
)
WORDLESS = Kind(
    "wordless-queries",
    "queries without a letter or digit",
    "BM25 has nothing to search for, so the reranker gets no documents.",
    "Repair or remove them.",
)
SHORT_QUERIES = Kind(
    "short-queries",
    "queries of one or two characters",
    "It is hard to say what would answer them.",
    "Check whether they were truncated in the export.",
)
LONG_QUERIES = Kind(
    "long-queries",
    "queries of more than 100 words",
    "The model sees only their beginning, and BM25 searches for every word.",
    "Use the short form of the topic (its title, not its narrative).",
)
CUT_OFF = Kind(
    "texts-cut-off",
    "documents whose text ends in three dots",
    "They look like teasers: the rest of the text, and perhaps the answer, is missing.",
    "Export the whole texts instead of the excerpts of a result page.",
)
TITLE_AGAIN = Kind(
    "titles-repeated",
    "texts that begin with their own title",
    "Title and text are joined for BM25 and for the model, so the title counts twice and takes "
    "slots from the text.",
    "Remove the title from the beginning of the text.",
)
LENGTH_TELLS = Kind(
    "length-tells-grade",
    "answers that are longer or shorter than documents judged not relevant",
    "A model may learn the length instead of the meaning: it looks good here, and fails where "
    "lengths differ.",
    "Check where the two sorts come from (other sources, missing texts), and add judgements of "
    "documents of the other length.",
)

KINDS = (
    EMPTY,
    WORDLESS,
    SHORT_QUERIES,
    LONG_QUERIES,
    WITHOUT_TEXT,
    WITHOUT_TITLE,
    SHORT_DOCUMENTS,
    LONG_DOCUMENTS,
    CUT_OFF,
    TITLE_AGAIN,
    LENGTH_TELLS,
)

FEW_WORDS = 3
MANY_WORDS = 2000
TIMES_MEDIAN = 10
QUERY_WORDS = 100
SEEN = 0.01
"""Share below which a kind is not worth a note; nor is it that close to all."""
OFTEN = 0.2
RARE = 0.005
"""Share of the answers below which lost ones change nothing."""
TITLE_WORDS = 3
TELLING = 0.5
"""Difference of mean length, in doublings, from which it is reported."""

_ENDS_IN_DOTS = re.compile(r"(\.\.\.|…|\[\.\.\.\]|\[…\])$")


@dataclass(frozen=True)
class _Rule:
    """A sort of documents to count.

    Attributes:
        kind: kind of the finding.
        test: True for a document of the sort.
        verb: what these documents do, for the title.
        warn: share from which the finding is a warning.
        most: share above which it is the rule in this collection, not a finding.
        show: text of a document that is shown as an example.
    """

    kind: Kind
    test: Callable[[Document], bool]
    verb: str
    warn: float = 2.0
    most: float = 1 - SEEN
    show: Callable[[Document], str] = headline


def find(inspection: Inspection) -> Iterator[Finding]:
    """Yield findings about lengths and fields."""
    yield from _empty(inspection)
    yield from _queries(inspection)
    yield from _long(inspection)
    for rule in _RULES:
        yield from _counted(inspection, rule)
    yield from _length_tells(inspection)


def _empty(inspection: Inspection) -> Iterator[Finding]:
    documents = inspection.collection.documents
    empty = [d.doc_id for d in documents.values() if not (d.title.strip() or d.text.strip())]
    if not empty:
        return
    answers = {d for query_id in inspection.collection.qrels for d in inspection.answers(query_id)}
    judged = [doc_id for doc_id in empty if doc_id in answers]
    yield EMPTY.finding(
        "warning" if len(judged) >= RARE * len(answers) and judged else "note",
        f"{part(len(empty), len(documents))} documents are empty"
        + (f", {len(judged)} of them judged an answer" if judged else ""),
        count=len(empty),
        total=len(documents),
        unit="documents",
        examples=[
            inspection.document_example(doc_id, "an answer" if doc_id in answers else "empty")
            for doc_id in sorted(empty, key=lambda doc_id: doc_id not in answers)
        ][: inspection.examples],
        figures={"answers": len(judged)},
    )


def _queries(inspection: Inspection) -> Iterator[Finding]:
    qrels = inspection.collection.qrels
    texts = {query_id: inspection.text(query_id) for query_id in qrels}
    wordless = {query_id for query_id, text in texts.items() if not terms(text)}
    short = {q for q, text in texts.items() if len(text.strip()) <= 2} - wordless
    long = {q for q, text in texts.items() if len(text.split()) > QUERY_WORDS}
    severity: Severity
    for kind, query_ids, severity, verb in (
        (WORDLESS, wordless, "warning", "hold no letter or digit"),
        (SHORT_QUERIES, short, "note", "have one or two characters"),
        (LONG_QUERIES, long, "note", f"have more than {QUERY_WORDS} words"),
    ):
        if query_ids:
            ids = [query_id for query_id in qrels if query_id in query_ids]
            yield kind.finding(
                severity,
                f"{part(len(ids), len(qrels))} judged queries {verb}",
                count=len(ids),
                total=len(qrels),
                unit="queries",
                examples=first(map(inspection.query_example, ids), inspection.examples),
            )


def _counted(inspection: Inspection, rule: _Rule) -> Iterator[Finding]:
    counted = [document for document in inspection.documents if rule.test(document)]
    share = len(counted) / len(inspection.documents)
    if counted and SEEN <= share <= rule.most:
        yield rule.kind.finding(
            "warning" if share >= rule.warn else "note",
            f"{part(len(counted), len(inspection.documents))} {inspection.called} {rule.verb}",
            count=len(counted),
            total=len(inspection.documents),
            unit="documents",
            examples=first(
                (
                    inspection.document_example(document.doc_id, clip(rule.show(document)))
                    for document in counted
                ),
                inspection.examples,
            ),
        )


def _long(inspection: Inspection) -> Iterator[Finding]:
    documents = inspection.documents
    words = [_words(document) for document in documents]
    usual = median(words)
    limit = max(MANY_WORDS, TIMES_MEDIAN * usual)
    long = sorted(
        (row for row, count in enumerate(words) if count > limit), key=lambda r: -words[r]
    )
    if long:
        yield LONG_DOCUMENTS.finding(
            "note",
            f"{part(len(long), len(documents))} {inspection.called} have more than {limit:,.0f} "
            f"words; half of all have at most {usual:,.0f}",
            count=len(long),
            total=len(documents),
            unit="documents",
            examples=[
                inspection.document_example(
                    documents[row].doc_id,
                    f"{words[row]:,} words: {clip(headline(documents[row]), 100)}",
                )
                for row in long[: inspection.examples]
            ],
        )


def _length_tells(inspection: Inspection) -> Iterator[Finding]:
    """Compare the lengths of answers and other judged documents, query by query."""
    documents, differences = inspection.collection.documents, []
    for query_id in inspection.collection.qrels:
        answers, others = inspection.answers(query_id), inspection.others(query_id)
        if answers and others:
            means = [_mean_length(documents[d] for d in side) for side in (answers, others)]
            differences.append(means[0] - means[1])
    if (difference := mean_difference(differences)) is None:
        return
    mean, low, high = difference
    if abs(mean) < TELLING or low <= 0 <= high:
        return
    times = [2.0**value for value in difference]
    yield LENGTH_TELLS.finding(
        "warning",
        f"answers are {times[0]:.1f} times as long as documents judged not relevant "
        f"(95 % interval {times[1]:.1f} to {times[2]:.1f}, {len(differences)} queries)",
        count=len(differences),
        total=len(inspection.collection.qrels),
        unit="queries",
        figures={"times": times[0], "interval": times[1:]},
    )


def _mean_length(documents: Iterable[Document]) -> float:
    return float(np.mean([math.log2(1 + _words(document)) for document in documents]))


def _words(document: Document) -> int:
    return len(document.title.split()) + len(document.text.split())


def _is_short(document: Document) -> bool:
    return 0 < _words(document) < FEW_WORDS


def _is_cut_off(document: Document) -> bool:
    return bool(_ENDS_IN_DOTS.search(document.text[-20:].rstrip()))


def _end(document: Document) -> str:
    return f"… {document.text[-100:].lstrip()}"


def _beginning(document: Document) -> str:
    return f"{document.title} | {document.text[:100]}"


def _repeats_title(document: Document) -> bool:
    if not document.title or document.title[:3].lower() not in document.text[:40].lower():
        return False
    title = normalized(document.title)
    begins = normalized(document.text[: 2 * len(document.title) + 20])
    return len(title.split()) >= TITLE_WORDS and f"{begins} ".startswith(f"{title} ")


_RULES = (
    _Rule(WITHOUT_TEXT, lambda d: bool(d.title) and not d.text.strip(), "have only a title"),
    _Rule(WITHOUT_TITLE, lambda d: bool(d.text) and not d.title.strip(), "have no title"),
    _Rule(SHORT_DOCUMENTS, _is_short, "have one or two words"),
    _Rule(CUT_OFF, _is_cut_off, "end in three dots, like teasers", OFTEN, 1.0, _end),
    _Rule(TITLE_AGAIN, _repeats_title, "begin with their own title", OFTEN, 1.0, _beginning),
)
