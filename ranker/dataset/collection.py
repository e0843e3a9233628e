"""The judged collection as a value, and the builder that puts it together row by row."""

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ranker.dataset.fields import Judgement, other_content
from ranker.dataset.problems import BadRow, Place, Problems, shown
from ranker.errors import DataError
from ranker.records import Document, Qrel, Query

__all__ = ["Dataset", "DatasetBuilder", "require_trainable", "same_collection"]

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Dataset:
    """Documents, queries and graded judgements.

    Attributes:
        name: name of the folder or file, or the `ir_datasets` id.
        documents: the whole corpus, by document id.
        queries: the judged queries, by query id; the same ids as in `qrels`.
        qrels: grade by query id and document id, from 0; every id is known.
        split: the split that was asked for; None for all of them.
        skipped: the first twenty bad rows that were left out, and a last line that counts the
            rest.
        skipped_total: number of bad rows that were left out.
        teacher_scores: a teacher's score by query id and document id, where the file has them.
    """

    name: str
    documents: dict[str, Document]
    queries: dict[str, Query]
    qrels: dict[str, dict[str, int]]
    split: str | None = None
    skipped: tuple[str, ...] = ()
    skipped_total: int = 0
    teacher_scores: dict[str, dict[str, float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        split = f", split={self.split!r}" if self.split else ""
        return (
            f"Dataset({self.name!r}{split}, {len(self.documents)} documents, "
            f"{len(self.qrels)} judged queries)"
        )

    @functools.cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of documents, queries and qrels, regardless of their format and order.

        Computed on first use: it reads the whole corpus, and most splits never need it.
        """
        digest = hashlib.sha256()
        for _, document in sorted(self.documents.items()):
            digest.update(_bytes("d", document.doc_id, document.title, document.text))
        for _, query in sorted(self.queries.items()):
            digest.update(_bytes("q", query.query_id, query.text))
        for query_id, grades in sorted(self.qrels.items()):
            for doc_id, grade in sorted(grades.items()):
                digest.update(_bytes("r", query_id, doc_id, str(grade)))
        return digest.hexdigest()


def same_collection(report: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return True if two reports are about one collection, by `name` or `sha256`."""
    return any(report[key] == other.get(key) for key in ("name", "sha256"))


class DatasetBuilder:
    """Collects records, rejects those that contradict earlier ones, and builds a Dataset.

    Attributes:
        place: where the record that `gather` is adding was read.
    """

    place: Place

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.queries: dict[str, Query] = {}
        self.qrels: dict[str, dict[str, int]] = {}
        self.teacher_scores: dict[str, dict[str, float]] = {}

    def gather(
        self, items: Iterable[tuple[Place, Item]], add: Callable[[Item], None], problems: Problems
    ) -> None:
        """Pass every item to `add`, note those that it rejects, then check.

        Raises:
            DataError: a strict reader met a bad row.
        """
        for self.place, item in items:
            try:
                add(item)
            except BadRow as bad:
                problems.add(self.place, bad)
        problems.check()

    def add_document(self, document: Document) -> None:
        """Add a document of a corpus.

        Raises:
            BadRow: its id was added before.
        """
        if document.doc_id in self.documents:
            raise BadRow("duplicate id", f"document id {shown(document.doc_id)} came before")
        self.documents[document.doc_id] = document

    def add_query(self, query: Query) -> None:
        """Add a query, once or several times.

        Raises:
            BadRow: its id was added before with another text.
        """
        if self.queries.setdefault(query.query_id, query) != query:
            raise BadRow(
                "duplicate id", f"query id {shown(query.query_id)} came before with another text"
            )

    def add_qrel(self, qrel: Qrel) -> None:
        """Add a judgement of a known query and document, once or several times.

        Raises:
            BadRow: one of them is unknown, or the pair already has another grade.
        """
        if qrel.query_id not in self.queries:
            raise BadRow("unknown query", f"query {shown(qrel.query_id)} is judged but has no text")
        if qrel.doc_id not in self.documents:
            raise BadRow(
                "unknown document", f"document {shown(qrel.doc_id)} is judged but not in the corpus"
            )
        before = self.qrels.setdefault(qrel.query_id, {}).setdefault(qrel.doc_id, qrel.grade)
        if before != qrel.grade:
            query, document = self.queries[qrel.query_id], self.documents[qrel.doc_id]
            raise BadRow(
                "contradiction",
                f"query {shown(query.text)} and document {shown(document.title or document.text)} "
                f"({qrel.doc_id}) are graded {qrel.grade} here and {before} before",
            )

    def add_judgement(self, row: Judgement) -> None:
        """Add a judged row; its query and document may be known, with equal content.

        Raises:
            BadRow: an id is known with other content, or the pair with another grade or score.
        """
        document = row.document
        if self.documents.get(document.doc_id, document) != document:
            raise other_content(document.doc_id)
        self.add_query(row.query)
        self.documents[document.doc_id] = document
        self.add_qrel(Qrel(row.query.query_id, document.doc_id, row.grade))
        if row.teacher_score is not None:
            scores = self.teacher_scores.setdefault(row.query.query_id, {})
            before = scores.setdefault(document.doc_id, row.teacher_score)
            if before != row.teacher_score:
                raise BadRow(
                    "contradiction",
                    f"teacher_score of query {shown(row.query.text)} and document "
                    f"{document.doc_id} is {row.teacher_score:g} here and {before:g} before",
                )

    def dataset(self, *, name: str, split: str | None, problems: Problems) -> Dataset:
        """Build the dataset, without unjudged queries.

        Raises:
            DataError: there is no document or no judgement.
        """
        left_out = f" ({problems.total} bad rows were left out)" if problems.total else ""
        if not self.documents:
            raise DataError(f"{name}: the corpus is empty{left_out}")
        if not self.qrels:
            raise DataError(f"{name}: there is no judgement{left_out}")
        queries = {id_: query for id_, query in self.queries.items() if id_ in self.qrels}
        qrels = {id_: self.qrels[id_] for id_ in queries}
        if unjudged := len(self.queries) - len(queries):
            within = f"split {split}" if split else "the judgements"
            logger.info("%s: %d queries do not occur in %s", name, unjudged, within)
        return Dataset(
            name=name,
            documents=self.documents,
            queries=queries,
            qrels=qrels,
            split=split,
            skipped=problems.listed(),
            skipped_total=problems.total,
            teacher_scores=self.teacher_scores,
        )


def require_trainable(dataset: Dataset) -> None:
    """Check that there is something to learn: a relevant document, and one ranked below it.

    A document that is not judged for a query counts as below.

    Raises:
        DataError: no grade is above 0, or no query leaves a document to rank lower.
    """
    best = {query_id: max(grades.values()) for query_id, grades in dataset.qrels.items()}
    if not any(best.values()):
        judgements = sum(map(len, dataset.qrels.values()))
        raise DataError(
            f"{dataset.name}: cannot train: all {judgements} labels are 0; "
            "expected grades above 0 for relevant documents"
        )
    if not any(
        list(dataset.qrels[query_id].values()).count(grade) < len(dataset.documents)
        for query_id, grade in best.items()
        if grade
    ):
        raise DataError(
            f"{dataset.name}: cannot train: all {len(dataset.documents)} documents are equally "
            "relevant to every query; expected others to rank below"
        )


def _bytes(*parts: str) -> bytes:
    # Escaped and quoted: no two lists of parts give the same bytes, in any version of Python.
    return ascii(parts).encode()
