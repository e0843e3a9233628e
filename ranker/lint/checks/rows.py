"""Rows that cannot be used, and judgements that repeat or contradict each other."""

from collections.abc import Iterator

from ranker.lint.collection import CONTRADICTION, REPEATED
from ranker.lint.finding import Example, Finding, Kind, Severity, clip, first
from ranker.lint.inspection import Inspection, plural

__all__ = ["KINDS", "find"]

MISSING_DOCUMENTS = Kind(
    "missing-documents",
    "judged documents that are not in the corpus",
    "An answer that is not in the corpus can never be retrieved: training cannot learn from it, "
    "and every ranking scores too low.",
    "Add the documents to the corpus, or leave the judgements out (ranker train --skip-bad).",
)
MISSING_QUERIES = Kind(
    "missing-queries",
    "judged queries without a text",
    "A judgement without its query cannot be used.",
    "Add the queries to the queries file, or leave the judgements out (--skip-bad).",
)
EMPTY_QUERIES = Kind(
    "empty-queries",
    "queries without a text",
    "An empty query retrieves nothing, so it scores 0 regardless of the model.",
    "Fill in the texts, or leave the queries and their judgements out (--skip-bad).",
)
CONTRADICTING = Kind(
    "contradicting-grades",
    "pairs of query and document with two grades",
    "It is unknown which grade is right, and which one is used depends on the order of rows.",
    "Decide on one grade, for instance by asking the annotators again or taking the median.",
)
DUPLICATE_IDS = Kind(
    "duplicate-ids",
    "ids that are used twice",
    "A judgement of that id may mean either of the two.",
    "Give every document and every query its own id.",
)
UNREADABLE = Kind(
    "unreadable-rows",
    "rows that cannot be read",
    "Data with such rows is rejected by ranker train and ranker evaluate.",
    "Repair the rows, or leave them out with --skip-bad.",
)
DUPLICATE_GRADES = Kind(
    "duplicate-grades",
    "judgements that are repeated with the same grade",
    "Repetitions do no harm and are counted once, but they often come from a faulty export or from "
    "joining the same file twice.",
    "Check how the file was made, and remove the repetitions.",
)

KINDS = (
    MISSING_DOCUMENTS,
    MISSING_QUERIES,
    EMPTY_QUERIES,
    CONTRADICTING,
    DUPLICATE_IDS,
    UNREADABLE,
    DUPLICATE_GRADES,
)

_BY_REASON = {
    "unknown document": (MISSING_DOCUMENTS, "judgements name a document that is not in the corpus"),
    "unknown query": (MISSING_QUERIES, "judgements name a query without a text"),
    "empty query": (EMPTY_QUERIES, "queries are empty"),
    CONTRADICTION: (CONTRADICTING, "judgements contradict another one"),
    "duplicate id": (DUPLICATE_IDS, "rows repeat an id that came before"),
    REPEATED: (DUPLICATE_GRADES, "judgements repeat another one"),
}


def find(inspection: Inspection) -> Iterator[Finding]:
    """Yield findings about the rows themselves."""
    rows = inspection.collection.rows
    known = [reason for reason in _BY_REASON if reason in rows.counts]
    for reason in known:
        kind, sentence = _BY_REASON[reason]
        yield _finding(inspection, kind, [reason], sentence)
    if rest := [reason for reason in rows.counts if reason not in _BY_REASON]:
        yield _finding(inspection, UNREADABLE, rest, f"rows are unusable ({', '.join(rest)})")


def _finding(inspection: Inspection, kind: Kind, reasons: list[str], sentence: str) -> Finding:
    rows = inspection.collection.rows
    count = sum(rows.counts[reason] for reason in reasons)
    severity: Severity = "note" if kind is DUPLICATE_GRADES else "error"
    judgements = kind in (MISSING_DOCUMENTS, MISSING_QUERIES, CONTRADICTING, DUPLICATE_GRADES)
    examples = (
        Example((), clip(text), inspection.collection.where(place))
        for reason in reasons
        for place, text in rows.first[reason]
    )
    return kind.finding(
        severity,
        f"{count:,} {sentence}" if count != 1 else _singular(sentence),
        count=count,
        total=inspection.collection.judgements if judgements else 0,
        unit="judgements" if judgements else "rows",
        examples=first(examples, inspection.examples),
        figures={reason: rows.counts[reason] for reason in reasons},
    )


def _singular(sentence: str) -> str:
    """Return a sentence about one thing: its noun and its verb in the singular."""
    noun, verb, rest = sentence.split(" ", 2)
    singular = {"queries": "query"}.get(noun, noun.removesuffix("s"))
    return f"{plural(1, singular)} {'is' if verb == 'are' else verb + 's'} {rest}"
