"""A dataset of the `ir_datasets` catalogue, which downloads it or says how to get it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ranker.dataset.fields import (
    QUERY_TEXTS,
    TEXTS,
    Row,
    document_of,
    grade_of,
    identifier,
    query_of,
)
from ranker.dataset.formats.source import Parts
from ranker.dataset.problems import Place, Problems, parsed
from ranker.errors import DataError, MissingExtra, require
from ranker.records import Document, Qrel, Query

__all__ = ["IrDataset", "looks_like_id"]

Record = Any
"""A named tuple of ir_datasets, whose fields differ between datasets."""

_PREFIX = "ir_datasets:"
_ID = re.compile(r"[a-z0-9-]+(/[a-z0-9._-]+)+", re.IGNORECASE)


def looks_like_id(text: str) -> bool:
    """Return True if a name may be an id of the catalogue, as in beir/scifact/test."""
    return bool(_ID.fullmatch(text))


@dataclass(frozen=True)
class IrDataset(Parts):
    """A dataset by its id, for instance `beir/scifact/test`; splits have their own ids."""

    id: str

    FORMATS = ("ir_datasets",)
    KIND = "id"

    @classmethod
    def refusal(cls, data: str, *, format: str | None, judged: bool) -> str | None:
        """Return why an id is none of the catalogue; one that is named as such is not refused."""
        if format is not None or data.startswith(_PREFIX):
            return None
        if not looks_like_id(data):
            return ""
        try:
            return None if cls(data).known() else ", and no dataset of ir_datasets has that id"
        except MissingExtra as error:
            return f" (if it is an id of ir_datasets: {error})"

    @classmethod
    def open(cls, data: str, *, format: str | None) -> "IrDataset":
        """Return the dataset of an id, which may follow "ir_datasets:"."""
        return cls(data.removeprefix(_PREFIX))

    @property
    def name(self) -> str:
        """The id."""
        return self.id

    def known(self) -> bool:
        """Return True if the catalogue has this id.

        Raises:
            MissingExtra: ir_datasets is not installed.
        """
        try:
            require("ir_datasets", extra="datasets").load(self.id)
        except KeyError:
            return False
        return True

    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """Read the corpus in the catalogue's order."""
        rows = ((place, _row(doc, TEXTS)) for place, doc in self._records("docs"))
        return parsed(rows, document_of, problems)

    def queries(self, problems: Problems) -> Iterator[tuple[Place, Query]]:
        """Read the queries."""
        rows = ((place, _row(query, QUERY_TEXTS)) for place, query in self._records("queries"))
        return parsed(rows, query_of, problems)

    def qrels(self, split: str | None, problems: Problems) -> Iterator[tuple[Place, Qrel]]:
        """Read the judgements."""
        return parsed(self._records("qrels"), _qrel_of, problems)

    def _records(self, what: str) -> Iterator[tuple[Place, Record]]:
        if not self.known():
            raise DataError(f"ir_datasets has no dataset {self.id}; its catalogue: ir-datasets.com")
        dataset = require("ir_datasets", extra="datasets").load(self.id)
        if not getattr(dataset, f"has_{what}")():
            raise DataError(f"ir_datasets:{self.id} has no {what}; name a part of it that has")
        try:
            for number, record in enumerate(getattr(dataset, f"{what}_iter")(), 1):
                yield Place(f"ir_datasets:{self.id} {what}", number, "row"), record
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"ir_datasets cannot read {self.id}: {reason}") from error


def _row(record: Record, texts: Sequence[str]) -> Row:
    """Return the record's fields; if none has a usual name, the text that ir_datasets chooses."""
    row: dict[str, object] = record._asdict()
    return row if set(texts) & set(row) else {**row, texts[0]: record.default_text()}


def _qrel_of(record: Record) -> Qrel:
    return Qrel(
        identifier(record.query_id, "query_id"),
        identifier(record.doc_id, "doc_id"),
        grade_of(record.relevance),
    )
