"""The cells of one row as records: the names of their columns, and the values they may hold."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ranker.contract.encode import sanitize_text
from ranker.dataset.problems import BadRow, listed_names, shown
from ranker.records import Document, Query

__all__ = [
    "DOCUMENT_IDS",
    "KNOWN",
    "QUERY_IDS",
    "QUERY_TEXTS",
    "TEXTS",
    "Judgement",
    "Row",
    "document_of",
    "either",
    "grade_of",
    "identifier",
    "judgement_of",
    "other_content",
    "query_of",
    "written_query_of",
]

Row = Mapping[str, object]

DOCUMENT_IDS = ("_id", "doc_id", "docno", "id")
TEXTS = ("text", "body", "contents", "abstract")
QUERY_IDS = ("_id", "query_id", "query-id", "qid", "id")
QUERY_TEXTS = ("text", "query", "title")
JUDGED = ("query", "title", "text", "label", "query_id", "doc_id", "teacher_score")
KNOWN = frozenset({*DOCUMENT_IDS, *TEXTS, *QUERY_IDS, *QUERY_TEXTS, *JUDGED})
"""Every name of a column that is read."""

LARGEST_GRADE = 1_000_000
"""trec_eval counts every grade up to the largest: a timestamp would take all memory."""

_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")


class Judgement(NamedTuple):
    """A judged row: a query, a document, the grade of the pair, and a teacher's score for it."""

    query: Query
    document: Document
    grade: int
    teacher_score: float | None = None


def document_of(row: Row) -> Document:
    """Return the document of a corpus row; title and text may be empty.

    Raises:
        BadRow: no id, no field for title or text, or a value that is not text.
    """
    id_key = _key(row, DOCUMENT_IDS)
    text_key = _key(row, TEXTS, optional="title" in row)
    return Document(
        doc_id=identifier(row[id_key], id_key),
        title=_text(row.get("title"), "title"),
        text=_text(row.get(text_key), text_key),
    )


def query_of(row: Row) -> Query:
    """Return the query of a row of a queries or topics file.

    Raises:
        BadRow: no id, or no text.
    """
    id_key = _key(row, QUERY_IDS)
    text_key = _key(row, QUERY_TEXTS)
    query_id = identifier(row[id_key], id_key)
    return Query(query_id, _query_text(row[text_key]))


def judgement_of(row: Row) -> Judgement:
    """Return the judgement of a row `query, title, label`, and of its optional columns.

    Those are `text`, `query_id`, `doc_id` and `teacher_score`.  An absent id is a hash of the
    content, so it is the same in every file.

    Raises:
        BadRow: a missing key, an empty query or document, a label that is not a grade, a
            `teacher_score` that is not a finite number.
    """
    query_text = _query_text(row[_key(row, ("query",))])
    title, text = _text(row.get("title"), "title"), _text(row.get("text"), "text")
    grade = grade_of(row[_key(row, ("label",))])
    if not sanitize_text(f"{title}{text}").strip():
        raise BadRow("empty document", "title and text are both empty")
    return Judgement(
        Query(_given_id(row, "query_id") or _content_id("q", query_text), query_text),
        Document(_given_id(row, "doc_id") or _content_id("d", title, text), title, text),
        grade,
        _teacher_score(row.get("teacher_score")),
    )


def written_query_of(row: Row) -> tuple[str, str]:
    """Return the text of a synthetic query and the id of its document, of a row `query, doc_id`.

    Raises:
        BadRow: a missing key, an empty query, or a bad id.
    """
    query = _query_text(row[_key(row, ("query",))]).removeprefix("query: ")
    return _query_text(query), identifier(row[_key(row, ("doc_id",))], "doc_id")


def other_content(doc_id: str) -> BadRow:
    """Return the error for a document id that comes again with another title or text."""
    return BadRow(
        "duplicate id", f"document id {shown(doc_id)} came before with another title or text"
    )


def identifier(value: object, name: str) -> str:
    """Return an id as text; a whole number becomes its digits.

    Raises:
        BadRow: the id is empty, is not text, or holds a space or a character that Vespa rejects.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadRow("bad id", f"{name} is {shown(value)}, expected text")
    if not value:
        raise BadRow("bad id", f"{name} is empty")
    if value.split() != [value] or sanitize_text(value) != value:
        # A TREC run is split at spaces, and Vespa rejects control characters.
        raise BadRow("bad id", f"{name} {shown(value)} holds a space or a control character")
    return value


def grade_of(value: object) -> int:
    """Return a label as a grade: a whole number from 0, which may be written 1.0.

    Raises:
        BadRow: the label is empty, not a number, not whole, negative, or too large.
    """
    if isinstance(value, str):
        value = value.strip()
    if _absent(value):
        raise BadRow("bad label", "the label is empty")
    number = _number(value)
    if number is None:
        raise BadRow("bad label", f"label {shown(value)} is not a number")
    if math.isnan(number) or number != math.floor(number):
        raise BadRow("bad label", f"label {shown(value)} is not a whole number")
    if number < 0:
        raise BadRow("bad label", f"label {shown(value)} is negative; grades start at 0")
    if number > LARGEST_GRADE:
        raise BadRow(
            "bad label", f"label {shown(value)} is above {LARGEST_GRADE}, the largest grade"
        )
    return int(number)


def either(names: Sequence[str]) -> str:
    """Return names for an error message: a, b or c."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return math.nan if math.isinf(value) else value
    text = str(value)
    if _WHOLE.fullmatch(text):
        return int(text.partition(".")[0])
    try:
        return _number(float(text))
    except ValueError:
        return None


def _teacher_score(value: object) -> float | None:
    """Return the cell as a score, or None if it is empty."""
    if _absent(value):
        return None
    try:
        score = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise BadRow("bad teacher_score", f"teacher_score {shown(value)} is not a finite number")
    return score


def _query_text(value: object) -> str:
    text = _text(value, "the query")
    if not sanitize_text(text).strip():
        raise BadRow("empty query", "the query is empty")
    return text


def _text(value: object, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow("not text", f"{name} is {shown(value)}, expected text")
    return value


def _absent(value: object) -> bool:
    return value is None or value == ""


def _key(row: Row, names: Sequence[str], *, optional: bool = False) -> str:
    for name in names:
        if name in row:
            return name
    if optional:
        return names[0]
    raise BadRow("missing key", f"no {either(names)} ({listed_names(row)})")


def _given_id(row: Row, name: str) -> str | None:
    value = row.get(name)
    return None if _absent(value) else identifier(value, name)


def _content_id(prefix: str, *parts: str) -> str:
    content = json.dumps(parts).encode()
    return f"{prefix}-{hashlib.sha256(content).hexdigest()[:12]}"
