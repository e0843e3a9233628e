"""The documents on disk: one SQLite file in WAL mode, the truth that the index is derived from.

Every change has a number, and the index remembers the number of the last one that it has taken.
There is one `Store`, which writes; any thread may read through a `Reader`.
"""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from ranker.artifacts.manifest import Manifest
from ranker.engine.documents.operations import DocumentOperation
from ranker.engine.documents.stored_document import StoredDocument
from ranker.engine.errors import DocumentError
from ranker.engine.storage.database import DOCUMENT, connect, document_of, document_row, prepare
from ranker.errors import ArtifactError

__all__ = ["Batch", "RowChange", "Store", "Totals"]

logger = logging.getLogger(__name__)

_INSERT = f"INSERT INTO documents (change, {', '.join(DOCUMENT)}) VALUES (?{', ?' * len(DOCUMENT)})"
_UPDATE = f"UPDATE documents SET change = ?, {' = ?, '.join(DOCUMENT)} = ? WHERE row = ?"
_UPDATE_TOTALS = (
    "UPDATE totals SET last_change = ?, documents = ?, titles = ?, title_length = ?, "
    "contents_length = ?"
)


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
        """Return the sums with one more document of these lengths, or one less for `sign` -1."""
        return replace(
            self,
            documents=self.documents + sign,
            titles=self.titles + (sign if title_length else 0),
            title_length=self.title_length + sign * title_length,
            contents_length=self.contents_length + sign * contents_length,
        )


@dataclass(frozen=True, slots=True)
class RowChange:
    """A change that the index must follow: a row is written, or removed (`document` None)."""

    number: int
    row: int
    document: StoredDocument | None
    fresh: bool
    """True if the row did not exist before."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one transaction.

    Attributes:
        outcomes: for each operation, None or the error that it ended with.
        changes: the changes that the index must follow.
        totals: after the transaction.
    """

    outcomes: list[DocumentError | None]
    changes: list[RowChange]
    totals: Totals


class Store:
    """The writing side; one caller at a time.

    Args:
        path: the SQLite file, made if it is missing.
        manifest: the application of the documents; without one, `adopt` names it later.

    Raises:
        ArtifactError: the file was not made by the engine, or belongs to another contract.
    """

    def __init__(self, path: Path, manifest: Manifest | None = None) -> None:
        self.path = path
        try:
            self._connection = connect(path)
            self._meta = prepare(self._connection, path)
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
        """The number of the session that was activated last; None for none."""
        number = self._meta.get("session")
        return None if number is None else int(number)

    @property
    def given(self) -> str | None:
        """The hash of the package that the engine was started with last; None for none."""
        return self._meta.get("given")

    def same_contract(self, manifest: Manifest) -> bool:
        """Say whether the documents of this file are those of an application."""
        return all(self._meta.get(key) == value for key, value in _identity(manifest).items())

    def require_fits(self, manifest: Manifest) -> None:
        """Refuse an application that cannot use the stored documents.

        Raises:
            ArtifactError: they were tokenized under another contract, or have another schema.
        """
        for key, wanted in _identity(manifest).items():
            present = self._meta.get(key)
            if present not in (None, wanted) and self.totals.documents:
                what = "the token contract" if key == "fingerprint" else f"the {key}"
                raise ArtifactError(
                    f"the data folder {self.path.parent} holds {self.totals.documents} documents "
                    f"and belongs to {what} {present}, this application has {wanted}; remove the "
                    "documents first or use another --data folder, then feed again"
                )

    def adopt(
        self, manifest: Manifest, session: int | None = None, given: str | None = None
    ) -> None:
        """Make this the file of an application, in one transaction; not while one is open.

        Args:
            manifest: the application.
            session: its number, for the next start.
            given: hash of the package that the engine is started with.

        Raises:
            ArtifactError: the documents belong to another contract, or a write to disk failed.
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
        """Run operations and commit them."""
        self.execute(operations)
        return self.commit()

    def execute(self, operations: Sequence[DocumentOperation]) -> None:
        """Run operations in a transaction, which `commit` must end.

        An error of one operation does not affect the others; a failed write to disk fails all.
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
                except DocumentError as error:
                    batch.outcomes.append(error)
            if batch.changes:
                # The index needs a removal only until it has followed it.
                self._connection.execute(
                    "DELETE FROM removals WHERE change <= ?", (self._followed,)
                )
                self._connection.execute(_UPDATE_TOTALS, astuple(totals))
            self._batch = replace(batch, totals=totals)
        except BaseException as error:
            self._undo()
            if not isinstance(error, sqlite3.Error):
                raise
            self._batch = Batch([_storage_error(error)] * len(operations), [], self.totals)

    def commit(self) -> Batch:
        """Commit the transaction, which is on disk when this returns."""
        batch = self._batch
        try:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            batch = Batch([_storage_error(error)] * len(batch.outcomes), [], self.totals)
        self.totals = batch.totals
        return batch

    def forget_later(self, up_to: int) -> None:
        """Forget, with the next transaction, the removals that the index has followed.

        This is the only method that may be called from any thread.
        """
        self._followed = up_to

    def close(self) -> None:
        """Close the file, into which SQLite folds the WAL."""
        self._connection.close()

    def _apply(
        self, operation: DocumentOperation, totals: Totals
    ) -> tuple[Totals, RowChange | None]:
        # Most puts do not look at the stored document, whose columns are then not read.
        columns = ", ".join(DOCUMENT) if operation.reads else "document_id"
        stored = self._connection.execute(
            f"SELECT row, title_length, contents_length, {columns} FROM documents "
            "WHERE document_id = ?",
            (operation.document_id,),
        ).fetchone()
        row, title_length, contents_length, *before = stored or (None, 0, 0)
        document = operation.apply(document_of(before) if before and operation.reads else None)
        if before:
            totals = totals.plus(title_length, contents_length, -1)
        if document:
            totals = totals.plus(document.title_length, document.contents_length)
        if not before and not document:
            return totals, None
        number = totals.last_change + 1
        row = self._write(row, document, number)
        change = RowChange(number, row, document, fresh=not before)
        return replace(totals, last_change=number), change

    def _write(self, row: int | None, document: StoredDocument | None, number: int) -> int:
        execute = self._connection.execute
        if document is None:
            assert row is not None
            execute("DELETE FROM documents WHERE row = ?", (row,))
            execute("INSERT INTO removals VALUES (?, ?)", (number, row))
            return row
        values = (number, *document_row(document))
        if row is not None:
            execute(_UPDATE, (*values, row))
            return row
        inserted = execute(_INSERT, values).lastrowid
        assert inserted is not None
        return inserted

    def _undo(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:  # SQLite rolls back when the connection is closed
                logger.warning("rollback failed: %s", error)


def _identity(manifest: Manifest) -> dict[str, str]:
    """Return what documents and application must have in common."""
    return {"schema": manifest.schema, "fingerprint": manifest.spec.fingerprint}


def _storage_error(error: sqlite3.Error) -> DocumentError:
    """Return 507 for a full disk, as Vespa does; SQLite reports a file limit as an I/O error."""
    logger.error("documents could not be stored: %s", error)
    full = "full" in str(error) or "disk I/O" in str(error)
    return DocumentError(
        507 if full else 500,
        f"the document was not stored: {error}; make room where the engine keeps its data",
    )
