"""The four records of an evaluation, under the field's own names."""

from dataclasses import dataclass

__all__ = ["Document", "Qrel", "Query", "ScoredDoc"]


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
    relevance: int


@dataclass(frozen=True, slots=True)
class ScoredDoc:
    """A document in a run, with the score that ranks it (higher is better)."""

    query_id: str
    doc_id: str
    score: float
