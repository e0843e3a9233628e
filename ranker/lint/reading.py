"""Judged data read for the linter: nothing is refused, everything is noted with its place."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ranker.dataset.collection import DatasetBuilder
from ranker.dataset.fields import Judgement
from ranker.dataset.formats.file import CorpusFile
from ranker.dataset.formats.source import Parts, Source
from ranker.dataset.loading import judged_source
from ranker.dataset.problems import BadRow, Place, shown
from ranker.errors import DataError
from ranker.lint.collection import CONTRADICTION, REPEATED, Collection, Qrels, Rows
from ranker.records import Document, Qrel, Query

__all__ = ["read_collection"]

Item = TypeVar("Item")


def read_collection(
    data: str | Path, *, format: str | None = None, split: str | None = None
) -> Collection:
    """Read judged data of any form; rows that `load` would refuse are noted in `rows`.

    Args:
        data: as for `ranker.dataset.load`.
        format: one of FORMATS; None to tell by path and content.
        split: look at the judgements of this split; None for all together.

    Raises:
        DataError: a file cannot be read at all, or there is no such split.
        MissingExtra: an `ir_datasets` id without that library.
        UsageError: an unknown format.
    """
    source = judged_source(data, format=format, split=split)
    reader = _Reader(source)
    reader.read()
    return replace(reader.collection(split), root=str(data).rstrip("/"))


class _Ledger(DatasetBuilder):
    """A ledger that tells of a judgement that was there before, too."""

    def __init__(self, documents: dict[str, Document], queries: dict[str, Query]) -> None:
        super().__init__()
        self.documents, self.queries = documents, queries

    def take_qrel(self, qrel: Qrel) -> None:
        with self._new(qrel):
            self.add_qrel(qrel)

    def take_judgement(self, row: Judgement) -> None:
        with self._new(Qrel(row.query.query_id, row.document.doc_id, row.grade)):
            self.add_judgement(row)

    @contextlib.contextmanager
    def _new(self, qrel: Qrel) -> Iterator[None]:
        """Take a judgement inside; if nothing else is wrong with it, it must be a new one."""
        known = qrel.doc_id in self.qrels.get(qrel.query_id, {})
        yield
        if known:
            pair = _pair(self.queries[qrel.query_id], self.documents[qrel.doc_id])
            raise BadRow(REPEATED, f"{pair} were graded {qrel.grade} before, too")


class _Reader:
    """Reads a source once, noting where everything came from."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rows = Rows()
        self.documents: dict[str, Document] = {}
        self.queries: dict[str, Query] = {}
        self.splits: dict[str, Qrels] = {}
        self.whole: Qrels = {}
        self.read_judgements: Counter[str | None] = Counter()
        self.document_places: dict[str, Place] = {}
        self.query_places: dict[str, Place] = {}
        self.bad_of: dict[str | None, Rows] = {}

    def read(self) -> None:
        if isinstance(self.source, CorpusFile):
            self._read_file(self.source)
        elif isinstance(self.source, Parts):
            self._read_parts(self.source)
        else:  # pragma: no cover - every source is one of the two
            raise DataError(f"{self.source.name}: cannot lint this form of judged data")

    def collection(self, split: str | None) -> Collection:
        qrels = self.splits[split] if split is not None else self._together()
        if not self.documents:
            raise DataError(f"{self.source.name}: not a single document can be read{self._why()}")
        rows = self.rows
        for name, own in self.bad_of.items():
            if split in (None, name):
                rows.take_over(own)
        return Collection(
            name=self.source.name,
            documents=self.documents,
            queries=self.queries,
            qrels=qrels,
            split=split,
            splits=self.splits,
            has_all_queries=isinstance(self.source, Parts),
            judgements=sum(
                count for name, count in self.read_judgements.items() if split in (None, name)
            ),
            rows=rows,
            document_places=self.document_places,
            query_places=self.query_places,
        )

    def _read_file(self, source: CorpusFile) -> None:
        ledger = _Ledger(self.documents, self.queries)

        def take(row: Judgement) -> None:
            self.read_judgements[None] += 1
            ledger.take_judgement(row)

        def place(row: Judgement, at: Place) -> None:
            self.document_places.setdefault(row.document.doc_id, at)
            self.query_places.setdefault(row.query.query_id, at)

        _take(source.judgements(self.rows), take, self.rows, place)
        self.whole = ledger.qrels

    def _read_parts(self, source: Parts) -> None:
        ledger = _Ledger(self.documents, self.queries)
        _take(
            source.documents(self.rows),
            ledger.add_document,
            self.rows,
            lambda document, at: self.document_places.setdefault(document.doc_id, at),
        )
        _take(
            source.queries(self.rows),
            ledger.add_query,
            self.rows,
            lambda query, at: self.query_places.setdefault(query.query_id, at),
        )
        for name in source.splits() or (None,):
            own = self._judgements(source, name)
            if name is None:
                self.whole = own
            else:
                self.splits[name] = own

    def _judgements(self, source: Parts, name: str | None) -> Qrels:
        ledger = _Ledger(self.documents, self.queries)
        bad = self.bad_of.setdefault(name, Rows())

        def take(qrel: Qrel) -> None:
            self.read_judgements[name] += 1
            ledger.take_qrel(qrel)

        _take(source.qrels(name, bad), take, bad, lambda qrel, at: None)
        return ledger.qrels

    def _together(self) -> Qrels:
        """The judgements of all splits; where two contradict each other, the first counts."""
        if not self.splits:
            return self.whole
        merged: Qrels = {}
        origin: dict[tuple[str, str], str] = {}
        for name, qrels in self.splits.items():
            for query_id, grades in qrels.items():
                own = merged.setdefault(query_id, {})
                for doc_id, grade in grades.items():
                    before = own.setdefault(doc_id, grade)
                    earlier = origin.setdefault((query_id, doc_id), name)
                    if before != grade:
                        pair = _pair(self.queries[query_id], self.documents[doc_id])
                        reason = f"{pair} are graded {grade} in {name} and {before} in {earlier}"
                        self.rows.note(None, BadRow(CONTRADICTION, reason))
        return merged

    def _why(self) -> str:
        """The first bad row, to go into an error."""
        for places in self.rows.first.values():
            place, reason = places[0]
            return f": {place}: {reason}"
        return ""


def _pair(query: Query, document: Document) -> str:
    named = f"document {shown(document.title or document.text)} ({document.doc_id})"
    return f"query {shown(query.text)} ({query.query_id}) and {named}"


def _take(
    items: Iterable[tuple[Place, Item]],
    take: Callable[[Item], None],
    rows: Rows,
    placed: Callable[[Item, Place], object],
) -> None:
    """Hand every item on; note those that are refused, and where the others came from."""
    for place, item in items:
        try:
            take(item)
        except BadRow as bad:
            rows.add(place, bad)
            if bad.kind != REPEATED:
                continue
        placed(item, place)
