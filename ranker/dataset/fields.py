"""The cells of one row as records: which names they go by, and what they may hold."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ranker.contract.encode import sanitize_text
from ranker.dataset.problems import BadRow, found, shown
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

Row = Mapping[str, Any]

DOCUMENT_IDS = ("_id", "doc_id", "docno", "id")
TEXTS = ("text", "body", "contents", "abstract")
QUERY_IDS = ("_id", "query_id", "query-id", "qid", "id")
QUERY_TEXTS = ("text", "query", "title")
JUDGED = ("query", "title", "text", "label", "query_id", "doc_id", "teacher_score")
KNOWN = frozenset({*DOCUMENT_IDS, *TEXTS, *QUERY_IDS, *QUERY_TEXTS, *JUDGED})
"""Every name that a column can have and be read."""

LARGEST_GRADE = 1_000_000
"""trec_eval counts every grade up to the largest: a time stamp would take all memory."""

_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")


class Judgement(NamedTuple):
    """A judged row: the two records, how relevant the one is to the other, a teacher's score."""

    query: Query
    document: Document
    grade: int
    teacher_score: float | None = None


def document_of(row: Row) -> Document:
    """The document of a corpus row; title and text may be empty.

    Raises:
        BadRow: no id, no field for title or text, or a value that is no text.
    """
    id_key = _key(row, DOCUMENT_IDS)
    text_key = _key(row, TEXTS, optional="title" in row)
    return Document(
        doc_id=identifier(row[id_key], id_key),
        title=_text(row.get("title"), "title"),
        text=_text(row.get(text_key), text_key),
    )


def query_of(row: Row) -> Query:
    """The query of a row of a queries or topics file.

    Raises:
        BadRow: no id, or no text.
    """
    id_key = _key(row, QUERY_IDS)
    text_key = _key(row, QUERY_TEXTS)
    query_id = identifier(row[id_key], id_key)
    return Query(query_id, _query_text(row[text_key]))


def judgement_of(row: Row) -> Judgement:
    """The judgement of a row `query, title, label`; `text`, ids and `teacher_score` as there are.

    Ids that are absent are hashes of the content: equal in every file.

    Raises:
        BadRow: a missing key, an empty query or document, a label that is no grade, a
            `teacher_score` that is no finite number.
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
    """The text of a synthetic query and the id of its document, of a row `query, doc_id`.

    Raises:
        BadRow: a missing key, an empty query, or an id that is none.
    """
    query = _query_text(row[_key(row, ("query",))]).removeprefix("query: ")
    return _query_text(query), identifier(row[_key(row, ("doc_id",))], "doc_id")


def other_content(doc_id: str) -> BadRow:
    """What to say of a document id that comes again with another title or text."""
    return BadRow(
        "duplicate id", f"document id {shown(doc_id)} came before with another title or text"
    )


def identifier(value: Any, name: str) -> str:
    """An id as text; whole numbers are taken as their digits.

    Raises:
        BadRow: the id is empty, holds a blank or a character that Vespa refuses, or is no text.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadRow("bad id", f"{name} is {shown(value)}, expected text")
    if not value:
        raise BadRow("bad id", f"{name} is empty")
    if value.split() != [value] or sanitize_text(value) != value:
        # A TREC run is split at blanks, and Vespa refuses control characters.
        raise BadRow("bad id", f"{name} {shown(value)} holds a blank or a control character")
    return value


def grade_of(value: Any) -> int:
    """A label as a grade: a whole number from 0, also written 1.0.

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
    """Names for an error message: a, b or c."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _number(value: Any) -> float | None:
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


def _teacher_score(value: Any) -> float | None:
    """The cell as a score, None where it is empty."""
    if _absent(value):
        return None
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise BadRow("bad teacher_score", f"teacher_score {shown(value)} is no finite number")
    return score


def _query_text(value: Any) -> str:
    text = _text(value, "the query")
    if not sanitize_text(text).strip():
        raise BadRow("empty query", "the query is empty")
    return text


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow("not text", f"{name} is {shown(value)}, expected text")
    return value


def _absent(value: Any) -> bool:
    return value is None or value == ""


def _key(row: Row, names: Sequence[str], *, optional: bool = False) -> str:
    for name in names:
        if name in row:
            return name
    if optional:
        return names[0]
    raise BadRow("missing key", f"no {either(names)} ({found(row)})")


def _given_id(row: Row, name: str) -> str | None:
    value = row.get(name)
    return None if _absent(value) else identifier(value, name)


def _content_id(prefix: str, *parts: str) -> str:
    content = json.dumps(parts).encode()
    return f"{prefix}-{hashlib.sha256(content).hexdigest()[:12]}"
