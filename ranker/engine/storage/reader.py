"""Reading the documents, from any thread."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ranker.contract import vespa_names
from ranker.engine.documents.stored_document import StoredDocument
from ranker.engine.storage.database import ATTRIBUTES, DOCUMENT, TERMS, connect, document_of
from ranker.engine.storage.store import RowChange

__all__ = ["RankedRow", "Reader"]

_CHUNK = 500
"""Rows in one `IN (...)`."""

_DOCUMENT = ", ".join(DOCUMENT)
_RANKED = ", ".join(("row", *TERMS, *ATTRIBUTES))


class RankedRow(NamedTuple):
    """The part of a document that the first phase reads; see `StoredDocument`.

    A tuple, because a query makes many of them, at a third of the time of a frozen dataclass.

    Attributes:
        row: its row.
        terms: index terms of the fields `title` and `contents`.
        lengths: their numbers.
        attributes: values of the fields of `ATTRIBUTES`.
    """

    row: int
    terms: dict[str, str]
    lengths: dict[str, int]
    attributes: dict[str, Any]


class Reader:
    """The reading side: each thread has a connection of its own, and none blocks the writer.

    Args:
        path: the SQLite file, which a `Store` has made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def get(self, document_id: str) -> StoredDocument | None:
        """Return the document of an id, None where there is none."""
        query = f"SELECT {_DOCUMENT} FROM documents WHERE document_id = ?"
        columns = self._execute(query, (document_id,)).fetchone()
        return document_of(columns) if columns else None

    def documents(self, rows: Sequence[int]) -> dict[int, StoredDocument]:
        """Return row to document, for those rows that still exist."""
        return {row: document_of(rest) for row, *rest in self._rows(f"row, {_DOCUMENT}", rows)}

    def ranked(self, rows: Sequence[int]) -> dict[int, RankedRow]:
        """Return row to what the first phase needs."""
        ranked = {}
        for row, title_length, contents_length, title, text, *values in self._rows(_RANKED, rows):
            terms = {vespa_names.TITLE: title, vespa_names.CONTENTS: title + text}
            lengths = {vespa_names.TITLE: title_length, vespa_names.CONTENTS: contents_length}
            attributes = dict(zip(ATTRIBUTES, values, strict=True))
            ranked[row] = RankedRow(row, terms, lengths, attributes)
        return ranked

    def tokens(self, rows: Sequence[int]) -> dict[int, bytes | None]:
        """Return row to token ids."""
        return {row: ids for row, ids in self._rows(f"row, {vespa_names.DOC_TOKEN_IDS}", rows)}

    def scan(self, after: int, limit: int) -> list[tuple[int, StoredDocument]]:
        """Return the next documents after a row, in the order of rows."""
        query = f"SELECT row, {_DOCUMENT} FROM documents WHERE row > ? ORDER BY row LIMIT ?"
        return [(row, document_of(rest)) for row, *rest in self._execute(query, (after, limit))]

    def changes(self, after: int) -> Iterator[RowChange]:
        """Iterate over the changes after a number, in no particular order, each row once."""
        for number, row in self._execute("SELECT * FROM removals WHERE change > ?", (after,)):
            yield RowChange(number, row, None, fresh=False)
        query = f"SELECT change, row, {_DOCUMENT} FROM documents WHERE change > ?"
        for number, row, *rest in self._execute(query, (after,)):
            yield RowChange(number, row, document_of(rest), fresh=False)

    def last_change(self) -> int:
        """Return the number of the last change."""
        return int(self._execute("SELECT last_change FROM totals", ()).fetchone()[0])

    def _rows(self, columns: str, rows: Sequence[int]) -> Iterator[Sequence[Any]]:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT {columns} FROM documents WHERE row IN ({marks})"
            yield from self._execute(query, chunk)

    def _execute(self, query: str, values: Sequence[Any]) -> sqlite3.Cursor:
        if not hasattr(self._local, "connection"):
            self._local.connection = connect(self._path)
            self._local.connection.execute("PRAGMA query_only = ON")
        cursor: sqlite3.Cursor = self._local.connection.execute(query, values)
        return cursor
