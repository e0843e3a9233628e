"""A judged collection as the linter reads it: nothing is rejected, every problem has a place."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ranker.dataset import Dataset
from ranker.dataset.collection import DatasetBuilder
from ranker.dataset.fields import Judgement
from ranker.dataset.loading import judged_source
from ranker.dataset.problems import BadRow, Place, Problems, shown
from ranker.errors import DataError
from ranker.records import Document, Qrel, Query

__all__ = ["Collection", "Qrels", "Rows", "collection_of", "read_collection"]

Qrels = dict[str, dict[str, int]]
Item = TypeVar("Item")

REPEATED = "duplicate grade"
"""Kind of a judgement that repeats another one."""
CONTRADICTION = "contradiction"
KEPT = 50


class Rows(Problems):
    """The bad rows of a collection by kind: their number, and the first of them."""

    def __init__(self) -> None:
        super().__init__(skip=True)
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[tuple[Place | None, str]]] = {}

    def add(self, place: Place | None, bad: BadRow) -> None:
        """Note a bad row, or a problem that has no place of its own."""
        self.total += 1
        self.counts[bad.kind] += 1
        kept = self.first.setdefault(bad.kind, [])
        if len(kept) < KEPT:
            kept.append((place, bad.reason))

    def include(self, other: "Rows") -> None:
        """Note everything that was noted elsewhere."""
        for kind, count in other.counts.items():
            self.total += count
            self.counts[kind] += count
            kept = self.first.setdefault(kind, [])
            kept += other.first[kind][: KEPT - len(kept)]


@dataclass(frozen=True)
class Collection:
    """Documents, queries and judgements, with the problems of the rows they were read from.

    Attributes:
        name: name of the folder or file, or the `ir_datasets` id.
        documents: by document id.
        queries: by query id, with the unjudged ones if `has_all_queries`.
        qrels: grade by query id and document id; the judgements that are checked.
        split: the split they are from; None for all splits together.
        splits: the judgements of every split by its name; empty if the format has none.
        has_all_queries: True if `queries` would hold queries that are not judged.
        judgements: number of judgements that could be read, repeated ones included.
        rows: the problems of the rows.
        document_places, query_places: where a record was first read, by its id.
        root: folder that places are relative to.
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
        """Return file and line of a document, if they are known."""
        return self.where(self.document_places.get(doc_id))

    def query_place(self, query_id: str) -> str | None:
        """Return file and line of a query, if they are known."""
        return self.where(self.query_places.get(query_id))

    def where(self, place: Place | None) -> str | None:
        """Return a place as file:line, the file relative to `root`."""
        if place is None:
            return None
        file = place.file.removeprefix(f"{self.root}/") if self.root else place.file
        if place.unit == "line":
            return f"{file}:{place.number}"
        return f"{file}, {place.unit} {place.number}"


def collection_of(
    dataset: Dataset, *, data: str | Path | None = None, format: str | None = None
) -> Collection:
    """Return the collection of a loaded dataset, without reading its documents again.

    Args:
        dataset: as loaded.
        data: what it was loaded from, to compare it with its other splits; None for no others.
        format: of `data`.

    Raises:
        DataError: `data` can no longer be read.
    """
    builder = DatasetBuilder()
    builder.documents, builder.queries = dataset.documents, dict(dataset.queries)
    splits: dict[str, Qrels] = {}
    source = judged_source(data, format=format) if data is not None else None
    if source is not None and len(source.splits()) > 1:
        ignored = Rows()
        builder.gather(source.queries(ignored), builder.add_query, ignored)
        for name in source.splits():
            builder.qrels = splits[name] = {}
            source.add_judgements(builder, split=name, problems=ignored)
    return Collection(
        name=dataset.name,
        documents=dataset.documents,
        queries=builder.queries,
        qrels=dataset.qrels,
        split=dataset.split,
        splits=splits,
        judgements=sum(map(len, dataset.qrels.values())),
    )


def read_collection(
    data: str | Path, *, format: str | None = None, split: str | None = None
) -> Collection:
    """Read judged data of any format; rows that `load` would reject are noted in `rows`.

    Args:
        data: as for `ranker.dataset.load`.
        format: one of `format_names()`; None to detect it by path and content.
        split: check the judgements of this split; None for all of them.

    Raises:
        DataError: a file cannot be read at all, or there is no such split.
        MissingExtra: an `ir_datasets` id without that library.
        UsageError: an unknown format.
    """
    source = judged_source(data, format=format, split=split)
    rows, builder, judgements = Rows(), _NotingBuilder(), 0
    source.add_texts(builder, rows)
    by_split: dict[str | None, Qrels] = {}
    for name in source.splits() or (None,):
        builder.qrels = by_split[name] = {}
        builder.judgements, own_rows = 0, Rows()
        source.add_judgements(builder, split=name, problems=own_rows)
        if split in (None, name):
            rows.include(own_rows)
            judgements += builder.judgements
    if not builder.documents:
        reason = next((f": {place}: {text}" for [(place, text), *_] in rows.first.values()), "")
        raise DataError(f"{source.name}: no document can be read{reason}")
    return Collection(
        name=source.name,
        documents=builder.documents,
        queries=builder.queries,
        qrels=_merged(by_split, builder, rows) if split is None else by_split[split],
        split=split,
        splits={name: qrels for name, qrels in by_split.items() if name is not None},
        has_all_queries=source.LISTS_UNJUDGED,
        judgements=judgements,
        rows=rows,
        document_places=builder.document_places,
        query_places=builder.query_places,
        root=str(data).rstrip("/"),
    )


class _NotingBuilder(DatasetBuilder):
    """A builder that notes where records come from, and rejects judgements that it has already.

    Attributes:
        judgements: number of judgements that it was given.
        document_places, query_places: where a record was first read, by its id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.judgements = 0
        self.document_places: dict[str, Place] = {}
        self.query_places: dict[str, Place] = {}
        self._repeated: Qrel | None = None

    def gather(
        self, items: Iterable[tuple[Place, Item]], add: Callable[[Item], None], problems: Problems
    ) -> None:
        def add_new(item: Item) -> None:
            self.judgements += isinstance(item, Qrel | Judgement)
            self._repeated = None
            add(item)
            # Only now: a repeated grade may come with a score that contradicts an earlier one.
            if self._repeated is not None:
                pair = _pair(self, self._repeated.query_id, self._repeated.doc_id)
                reason = f"{pair} were already graded {self._repeated.grade}"
                raise BadRow(REPEATED, reason)

        super().gather(items, add_new, problems)

    def add_document(self, document: Document) -> None:
        super().add_document(document)
        self.document_places[document.doc_id] = self.place

    def add_query(self, query: Query) -> None:
        super().add_query(query)
        self.query_places.setdefault(query.query_id, self.place)

    def add_qrel(self, qrel: Qrel) -> None:
        known = qrel.doc_id in self.qrels.get(qrel.query_id, {})
        super().add_qrel(qrel)
        self._repeated = qrel if known else None

    def add_judgement(self, row: Judgement) -> None:
        super().add_judgement(row)
        self.document_places.setdefault(row.document.doc_id, self.place)


def _merged(by_split: Mapping[str | None, Qrels], builder: DatasetBuilder, rows: Rows) -> Qrels:
    """Return the judgements of all splits; if two contradict each other, the first counts."""
    if len(by_split) == 1:
        return next(iter(by_split.values()))
    merged: Qrels = {}
    origin: dict[tuple[str, str], str | None] = {}
    for name, qrels in by_split.items():
        for query_id, grades in qrels.items():
            own = merged.setdefault(query_id, {})
            for doc_id, grade in grades.items():
                before = own.setdefault(doc_id, grade)
                earlier = origin.setdefault((query_id, doc_id), name)
                if before != grade:
                    pair = _pair(builder, query_id, doc_id)
                    reason = f"{pair} are graded {grade} in {name} and {before} in {earlier}"
                    rows.add(None, BadRow(CONTRADICTION, reason))
    return merged


def _pair(builder: DatasetBuilder, query_id: str, doc_id: str) -> str:
    query, document = builder.queries[query_id], builder.documents[doc_id]
    named = f"document {shown(document.title or document.text)} ({doc_id})"
    return f"query {shown(query.text)} ({query_id}) and {named}"
