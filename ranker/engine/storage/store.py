"""The documents on disk: one SQLite file in WAL mode, the truth that the index is derived from.

Every change has a number; the index remembers up to which one it has come.  There is one `Store`,
which writes; any thread may read through a `Reader`.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.engine.documents.operations import DocumentOperation
from ranker.engine.documents.stored_document import StoredDocument
from ranker.engine.errors import DocumentError
from ranker.errors import ArtifactError

__all__ = ["Batch", "RowChange", "RankedRow", "Reader", "Store", "Totals"]

logger = logging.getLogger(__name__)

FORMAT = 3
"""Format of the file and of the terms in it; a file of another format is refused.

2: KStem instead of Snowball.  3: the terms of title and text in columns of their own.
"""

# What ranking reads comes first: SQLite walks a long row's pages only as far as the last column
# that is asked for.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE totals (
    last_change INTEGER NOT NULL, documents INTEGER NOT NULL, titles INTEGER NOT NULL,
    title_length INTEGER NOT NULL, contents_length INTEGER NOT NULL
);
INSERT INTO totals VALUES (0, 0, 0, 0, 0);
CREATE TABLE documents (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    change INTEGER NOT NULL,
    title_length INTEGER NOT NULL,
    contents_length INTEGER NOT NULL,
    token_fingerprint INTEGER,
    doc_id TEXT,
    title_terms TEXT NOT NULL,
    text_terms TEXT NOT NULL,
    tokens BLOB,
    title TEXT,
    text TEXT
);
CREATE INDEX documents_by_change ON documents (change);
CREATE TABLE removals (change INTEGER PRIMARY KEY, row INTEGER NOT NULL);
"""
_DOCUMENT = (
    "doc_id, title, text, token_fingerprint, tokens, title_terms, text_terms, title_length, "
    "contents_length"
)
_CHUNK = 500
"""Rows in one `IN (...)`."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the live documents, for BM25's average lengths.

    Attributes:
        last_change: number of the last change that they contain.
        documents: number of documents.
        titles: number of documents with a title.
        title_length, contents_length: terms of all of them.
    """

    last_change: int = 0
    documents: int = 0
    titles: int = 0
    title_length: int = 0
    contents_length: int = 0

    def plus(self, title_length: int, contents_length: int, sign: int = 1) -> "Totals":
        """With a document of these lengths more, or with `sign` -1 one less."""
        return replace(
            self,
            documents=self.documents + sign,
            titles=self.titles + (sign if title_length else 0),
            title_length=self.title_length + sign * title_length,
            contents_length=self.contents_length + sign * contents_length,
        )


@dataclass(frozen=True, slots=True)
class RowChange:
    """What the index must do: write a row anew, or remove it (`document` None)."""

    number: int
    row: int
    document: StoredDocument | None
    fresh: bool
    """Whether the row was not there before."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one transaction.

    Attributes:
        outcomes: for each operation, None or the fault that it ended with.
        changes: what the index must follow.
        totals: after the transaction.
    """

    outcomes: list[DocumentError | None]
    changes: list[RowChange]
    totals: Totals


@dataclass(frozen=True, slots=True)
class RankedRow:
    """What the first phase sees of a document; see `StoredDocument`."""

    row: int
    title_length: int
    contents_length: int
    token_fingerprint: int | None
    doc_id: str | None
    title_terms: str
    text_terms: str


class Store:
    """The writing side; one caller at a time.

    Args:
        path: the SQLite file, made if it is missing.
        manifest: whose documents these are; without one, `adopt` says it later.

    Raises:
        ArtifactError: the file is not one of the engine, or belongs to another contract.
    """

    def __init__(self, path: Path, manifest: Manifest | None = None) -> None:
        self.path = path
        try:
            self._connection = _connect(path)
            self._meta = _prepare(self._connection, path)
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"{path} cannot be used ({error}); expected the documents of an embedded engine"
            ) from error
        self.totals = Totals(*self._connection.execute("SELECT * FROM totals").fetchone())
        if manifest is not None:
            self.adopt(manifest)
        self._followed = 0
        self._batch = Batch([], [], self.totals)

    @property
    def session(self) -> int | None:
        """Number of the application that was activated last; None for none."""
        found = self._meta.get("session")
        return None if found is None else int(found)

    @property
    def given(self) -> str | None:
        """Hash of the application that the engine was started with last; None for none."""
        return self._meta.get("given")

    def same_contract(self, manifest: Manifest) -> bool:
        """Whether an application's documents are those of this file."""
        return all(self._meta.get(key) == value for key, value in _identity(manifest).items())

    def require_fits(self, manifest: Manifest) -> None:
        """Refuse an application that cannot use the documents that are there.

        Raises:
            ArtifactError: they were tokenized under another contract, or are of another schema.
        """
        for key, wanted in _identity(manifest).items():
            found = self._meta.get(key)
            if found not in (None, wanted) and self.totals.documents:
                what = "the token contract" if key == "fingerprint" else f"the {key}"
                raise ArtifactError(
                    f"the data folder {self.path.parent} holds {self.totals.documents} documents "
                    f"and belongs to {what} {found}, this application has {wanted}; remove the "
                    "documents first or use another --data folder, then feed again"
                )

    def adopt(
        self, manifest: Manifest, session: int | None = None, given: str | None = None
    ) -> None:
        """Make this the file of an application, in one transaction; not while one is open.

        Args:
            manifest: the application.
            session: its number, to be found at the next start.
            given: hash of the application that the engine is started with.

        Raises:
            ArtifactError: the documents are not its own, or the disk refuses.
        """
        self.require_fits(manifest)
        wanted = dict(_identity(manifest))
        notes = {"session": session, "given": given}
        wanted.update({key: str(value) for key, value in notes.items() if value is not None})
        if wanted.items() <= self._meta.items():
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", wanted.items()
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise ArtifactError(
                f"{self.path} cannot be written ({error}); make room where the engine has its data"
            ) from error
        self._meta.update(wanted)

    def apply(self, operations: Sequence[DocumentOperation]) -> Batch:
        """`execute` and `commit` in one."""
        self.execute(operations)
        return self.commit()

    def execute(self, operations: Sequence[DocumentOperation]) -> None:
        """Run operations in a transaction, which `commit` must end.

        A fault of one operation leaves the others alone; when the disk refuses, all fail.
        """
        batch = Batch([], [], self.totals)
        totals = self.totals
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for operation in operations:
                try:
                    totals, change = self._apply(operation, totals)
                    batch.changes.extend([change] if change else [])
                    batch.outcomes.append(None)
                except DocumentError as fault:
                    batch.outcomes.append(fault)
            if batch.changes:
                self._note(totals)
            self._batch = replace(batch, totals=totals)
        except BaseException as error:
            self._undo()
            if not isinstance(error, sqlite3.Error):
                raise
            self._batch = Batch([_storage_fault(error)] * len(operations), [], self.totals)

    def commit(self) -> Batch:
        """End the transaction: what succeeded is on disk when this returns."""
        batch = self._batch
        try:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            fault = _storage_fault(error)
            batch = Batch([fault] * len(batch.outcomes), [], self.totals)
        self.totals = batch.totals
        return batch

    def forget_later(self, up_to: int) -> None:
        """Drop the notes of removals that the index has followed, with the next transaction.

        The only method that may be called from any thread.
        """
        self._followed = up_to

    def close(self) -> None:
        """Close the file; the WAL is folded into it."""
        self._connection.close()

    def _note(self, totals: Totals) -> None:
        """Write the totals down, and forget the removals that the index has followed."""
        self._connection.execute("DELETE FROM removals WHERE change <= ?", (self._followed,))
        self._connection.execute(
            "UPDATE totals SET last_change = ?, documents = ?, titles = ?, title_length = ?, "
            "contents_length = ?",
            _row_of(totals),
        )

    def _apply(
        self, operation: DocumentOperation, totals: Totals
    ) -> tuple[Totals, RowChange | None]:
        columns = f"row, {_DOCUMENT}" if operation.reads else "row, title_length, contents_length"
        found = self._connection.execute(
            f"SELECT {columns} FROM documents WHERE id = ?", (operation.id,)
        ).fetchone()
        document = operation.apply(
            StoredDocument(*found[1:]) if found and operation.reads else None
        )
        if found:
            totals = totals.plus(found[-2], found[-1], -1)
        if document:
            totals = totals.plus(document.title_length, document.contents_length)
        if not found and not document:
            return totals, None
        number = totals.last_change + 1
        row = self._write(operation.id, found[0] if found else None, document, number)
        return replace(totals, last_change=number), RowChange(
            number, row, document, fresh=not found
        )

    def _write(
        self, id_: str, row: int | None, document: StoredDocument | None, number: int
    ) -> int:
        execute = self._connection.execute
        if document is None:
            assert row is not None
            execute("DELETE FROM documents WHERE row = ?", (row,))
            execute("INSERT INTO removals VALUES (?, ?)", (number, row))
            return row
        values = (
            number,
            document.title_length,
            document.contents_length,
            document.token_fingerprint,
            document.doc_id,
            document.title_terms,
            document.text_terms,
            document.tokens,
            document.title,
            document.text,
        )
        if row is None:
            inserted = execute(
                "INSERT INTO documents VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (id_, *values),
            )
            assert inserted.lastrowid is not None
            return inserted.lastrowid
        execute(
            "UPDATE documents SET change = ?, title_length = ?, contents_length = ?, "
            "token_fingerprint = ?, doc_id = ?, title_terms = ?, text_terms = ?, tokens = ?, "
            "title = ?, text = ? WHERE row = ?",
            (*values, row),
        )
        return row

    def _undo(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:  # SQLite rolls back by itself when it is closed
                logger.warning("rollback failed: %s", error)


class Reader:
    """The reading side, from any thread: each has its own connection, and none blocks the writer.

    Args:
        path: the SQLite file, which a `Store` has made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def get(self, id_: str) -> StoredDocument | None:
        """A document by its id."""
        found = self._execute(f"SELECT {_DOCUMENT} FROM documents WHERE id = ?", (id_,)).fetchone()
        return StoredDocument(*found) if found else None

    def documents(self, rows: Sequence[int]) -> dict[int, tuple[str, StoredDocument]]:
        """Row to id and document, of those rows that are still there."""
        found = self._rows(f"row, id, {_DOCUMENT}", rows)
        return {row: (id_, StoredDocument(*rest)) for row, id_, *rest in found}

    def ranked(self, rows: Sequence[int]) -> dict[int, RankedRow]:
        """Row to what the first phase needs."""
        columns = (
            "row, title_length, contents_length, token_fingerprint, doc_id, title_terms, text_terms"
        )
        return {found[0]: RankedRow(*found) for found in self._rows(columns, rows)}

    def tokens(self, rows: Sequence[int]) -> dict[int, bytes | None]:
        """Row to tokens."""
        return dict(self._rows("row, tokens", rows))

    def scan(self, after: int, limit: int) -> list[tuple[int, str, StoredDocument]]:
        """The next documents after a row, in the order of rows."""
        found = self._execute(
            f"SELECT row, id, {_DOCUMENT} FROM documents WHERE row > ? ORDER BY row LIMIT ?",
            (after, limit),
        )
        return [(row, id_, StoredDocument(*rest)) for row, id_, *rest in found]

    def changes(self, after: int) -> Iterator[RowChange]:
        """Changes after a number, in no particular order, each row once."""
        for number, row in self._execute("SELECT * FROM removals WHERE change > ?", (after,)):
            yield RowChange(number, row, None, fresh=False)
        found = self._execute(
            f"SELECT change, row, {_DOCUMENT} FROM documents WHERE change > ?", (after,)
        )
        for number, row, *rest in found:
            yield RowChange(number, row, StoredDocument(*rest), fresh=False)

    def last_change(self) -> int:
        """Number of the last change."""
        return int(self._execute("SELECT last_change FROM totals", ()).fetchone()[0])

    def _rows(self, columns: str, rows: Sequence[int]) -> list[Any]:
        found: list[Any] = []
        for at in range(0, len(rows), _CHUNK):
            chunk = rows[at : at + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT {columns} FROM documents WHERE row IN ({marks})"
            found += self._execute(query, chunk).fetchall()
        return found

    def _execute(self, query: str, values: Sequence[Any]) -> sqlite3.Cursor:
        if not hasattr(self._local, "connection"):
            self._local.connection = _connect(self._path)
            self._local.connection.execute("PRAGMA query_only = ON")
        cursor: sqlite3.Cursor = self._local.connection.execute(query, values)
        return cursor


def _connect(path: Path) -> sqlite3.Connection:
    # Connections end with their thread, and a thread may end at exit in another's hands.
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "wal_autocheckpoint = 4000",
        "journal_size_limit = 67108864",
        "cache_size = -16000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> dict[str, str]:
    """Make the tables of a new file; refuse another format. What the file says of itself."""
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        connection.executescript(
            f"BEGIN; {_SCHEMA} INSERT INTO meta VALUES ('format', '{FORMAT}'); COMMIT;"
        )
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if meta.get("format") != str(FORMAT):
        raise ArtifactError(
            f"the data folder {path.parent} belongs to the format {meta.get('format')}, this "
            f"version of ranker has {FORMAT}; name another --data folder and feed again"
        )
    return meta


def _identity(manifest: Manifest) -> dict[str, str]:
    """What documents and application must have in common."""
    return {"schema": manifest.schema, "fingerprint": manifest.spec.fingerprint}


def _row_of(totals: Totals) -> tuple[int, ...]:
    return (
        totals.last_change,
        totals.documents,
        totals.titles,
        totals.title_length,
        totals.contents_length,
    )


def _storage_fault(error: sqlite3.Error) -> DocumentError:
    """A full disk is 507, as in Vespa; SQLite reports a file limit as an I/O error."""
    logger.error("documents could not be stored: %s", error)
    full = "full" in str(error) or "disk I/O" in str(error)
    return DocumentError(
        507 if full else 500,
        f"the document was not stored: {error}; make room where the engine keeps its data",
    )
