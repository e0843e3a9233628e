"""The three records of an evaluation, under the field's own names."""

from dataclasses import dataclass

__all__ = ["Document", "Qrel", "Query"]


@dataclass(frozen=True, slots=True)
class Query:
    """A question put to the search engine."""

    query_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the corpus; `title` may be empty."""

    doc_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Qrel:
    """A judgement: how relevant a document is to a query (0 = not relevant)."""

    query_id: str
    doc_id: str
    grade: int
