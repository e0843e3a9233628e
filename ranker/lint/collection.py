"""A judged collection as the linter sees it, with what is wrong with its rows and where."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ranker.dataset import Dataset
from ranker.dataset.formats.source import Parts
from ranker.dataset.loading import judged_source
from ranker.dataset.problems import BadRow, Place, Problems
from ranker.records import Document, Query

__all__ = ["Collection", "Qrels", "Rows", "collection_of"]

Qrels = dict[str, dict[str, int]]
Item = TypeVar("Item")

REPEATED = "duplicate grade"
"""Kind of a judgement that says again what another one said."""
CONTRADICTION = "contradiction"
KEPT = 50


class Rows(Problems):
    """The bad rows of a collection by kind: how many, and the first of them."""

    def __init__(self) -> None:
        super().__init__(skip=True)
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[tuple[Place | None, str]]] = {}

    def add(self, place: Place, bad: BadRow) -> None:
        """Note a bad row."""
        self.note(place, bad)

    def note(self, place: Place | None, bad: BadRow) -> None:
        """Note something bad that may have no place of its own."""
        self.total += 1
        self.counts[bad.kind] += 1
        kept = self.first.setdefault(bad.kind, [])
        if len(kept) < KEPT:
            kept.append((place, bad.reason))

    def take_over(self, other: "Rows") -> None:
        """Note all that was noted elsewhere."""
        for kind, count in other.counts.items():
            self.total += count
            self.counts[kind] += count
            kept = self.first.setdefault(kind, [])
            kept += other.first[kind][: KEPT - len(kept)]


@dataclass(frozen=True)
class Collection:
    """Documents, queries and judgements, with all that is wrong with the rows they came from.

    Attributes:
        name: of the folder, the file or the `ir_datasets` id.
        documents: by document id.
        queries: by query id, the unjudged ones too where `has_all_queries`.
        qrels: grade by query id and document id; the judgements that are looked at.
        split: the split they are from; None for all splits together.
        splits: the judgements of every split by its name; empty where the form has none.
        has_all_queries: whether queries that nobody judged would be in `queries`.
        judgements: rows of judgements that could be read, repeated ones too.
        rows: what was wrong with rows.
        document_places, query_places: where a record was first read, by its id.
        root: folder that places are told from.
    """

    name: str
    documents: Mapping[str, Document]
    queries: Mapping[str, Query]
    qrels: Qrels
    split: str | None = None
    splits: Mapping[str, Qrels] = field(default_factory=dict)
    has_all_queries: bool = False
    judgements: int = 0
    rows: Rows = field(default_factory=Rows)
    document_places: Mapping[str, Place] = field(default_factory=dict)
    query_places: Mapping[str, Place] = field(default_factory=dict)
    root: str = ""

    def document_place(self, doc_id: str) -> str | None:
        """File and line of a document, where they are known."""
        return self.where(self.document_places.get(doc_id))

    def query_place(self, query_id: str) -> str | None:
        """File and line of a query, where they are known."""
        return self.where(self.query_places.get(query_id))

    def where(self, place: Place | None) -> str | None:
        """A place as file:line, the file as seen from `root`."""
        if place is None:
            return None
        file = place.file.removeprefix(f"{self.root}/") if self.root else place.file
        return (
            f"{file}:{place.number}"
            if place.unit == "line"
            else f"{file}, {place.unit} {place.number}"
        )


def collection_of(
    dataset: Dataset, *, data: str | Path | None = None, format: str | None = None
) -> Collection:
    """The collection of a dataset that was loaded before, without reading its documents again.

    Args:
        dataset: as loaded.
        data: where it was loaded from, to look at its other splits; None for none.
        format: of `data`.

    Raises:
        DataError: `data` cannot be read any more.
    """
    queries: dict[str, Query] = dict(dataset.queries)
    splits: dict[str, Qrels] = {}
    source = judged_source(data, format=format) if data is not None else None
    if isinstance(source, Parts) and len(source.splits()) > 1:
        ignored = Rows()
        queries |= {query.query_id: query for _, query in source.queries(ignored)}
        for name in source.splits():
            own = splits.setdefault(name, {})
            for _, qrel in source.qrels(name, ignored):
                if qrel.query_id in queries and qrel.doc_id in dataset.documents:
                    own.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.grade
    return Collection(
        name=dataset.name,
        documents=dataset.documents,
        queries=queries,
        qrels=dataset.qrels,
        split=dataset.split,
        splits=splits,
        judgements=sum(map(len, dataset.qrels.values())),
    )
