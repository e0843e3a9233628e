"""The SQLite file of the documents: its tables, its format and the settings of a connection."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ranker.contract.fields import DOCUMENT_FIELDS
from ranker.engine.documents.stored_document import StoredDocument
from ranker.errors import ArtifactError

__all__ = ["ATTRIBUTES", "DOCUMENT", "TERMS", "connect", "document_of", "document_row", "prepare"]

FORMAT = 3
"""Format of the file and of the terms in it; a file of another format is refused.

2: KStem instead of Snowball.  3: the columns are those of the table of fields.
"""

TERMS = ("title_length", "contents_length", "title_terms", "text_terms")
"""Columns with the index terms of a document."""

ATTRIBUTES = tuple(
    field.name
    for field in DOCUMENT_FIELDS.values()
    if field.attribute and field.vespa_type != "tensor"
)
"""Fields whose value decides about matching, order or score."""

_REST = [field for name, field in DOCUMENT_FIELDS.items() if name not in ATTRIBUTES]
FIELD_COLUMNS = (
    *ATTRIBUTES,
    *(field.name for field in _REST if field.attribute),
    *(field.name for field in _REST if not field.attribute),
)
DOCUMENT = ("document_id", *TERMS, *FIELD_COLUMNS)
"""Columns of a stored document.

What ranking reads comes first: SQLite reads a long row only up to the last column it needs.
"""

_COLUMNS = ("row", "change", *DOCUMENT)
# AUTOINCREMENT: the number of a removed row is never given to another document, so that a visit
# continues after a row and the index deletes by row without mistaking one for the other.
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE totals (
    last_change INTEGER NOT NULL, documents INTEGER NOT NULL, titles INTEGER NOT NULL,
    title_length INTEGER NOT NULL, contents_length INTEGER NOT NULL
);
INSERT INTO totals VALUES (0, 0, 0, 0, 0);
CREATE TABLE documents (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    change INTEGER NOT NULL,
    document_id TEXT NOT NULL UNIQUE,
    title_length INTEGER NOT NULL,
    contents_length INTEGER NOT NULL,
    title_terms TEXT NOT NULL,
    text_terms TEXT NOT NULL,
    {", ".join(f"{name} {DOCUMENT_FIELDS[name].sql_type}" for name in FIELD_COLUMNS)}
);
CREATE INDEX documents_by_change ON documents (change);
CREATE TABLE removals (change INTEGER PRIMARY KEY, row INTEGER NOT NULL);
INSERT INTO meta VALUES ('format', '{FORMAT}');
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection; a commit on it is on disk when it returns."""
    # Connections end with their thread, and at exit another thread may close them.
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    for pragma in (
        "journal_mode = WAL",  # readers do not block the writer
        "synchronous = FULL",  # a commit survives a power failure
        "wal_autocheckpoint = 4000",  # pages, 16 MB: a feed is not stopped every 4 MB
        "journal_size_limit = 67108864",
        "cache_size = -16000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> dict[str, str]:
    """Make the tables of a new file, and return the notes that a file keeps about itself.

    Raises:
        ArtifactError: the file has another format or other fields.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    columns = tuple(name for _, name, *_ in connection.execute("PRAGMA table_info(documents)"))
    if meta.get("format") != str(FORMAT) or columns != _COLUMNS:
        raise ArtifactError(
            f"the data folder {path.parent} has the format {meta.get('format')} with the columns "
            f"{', '.join(columns)}; this version of ranker has the format {FORMAT} with "
            f"{', '.join(_COLUMNS)}; name another --data folder and feed again"
        )
    return meta


def document_of(row: Sequence[Any]) -> StoredDocument:
    """Make a document of its columns (`DOCUMENT`)."""
    document_id, title_length, contents_length, title_terms, text_terms, *values = row
    return StoredDocument(
        document_id=document_id,
        values=dict(zip(FIELD_COLUMNS, values, strict=True)),
        title_terms=title_terms,
        text_terms=text_terms,
        title_length=title_length,
        contents_length=contents_length,
    )


def document_row(document: StoredDocument) -> list[Any]:
    """Return the columns of a document (`DOCUMENT`)."""
    terms = [getattr(document, name) for name in TERMS]
    return [document.document_id, *terms, *(document.values[name] for name in FIELD_COLUMNS)]
