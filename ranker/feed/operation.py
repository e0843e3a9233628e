"""A document as an operation of Vespa's document API, with its token ids; pure but for one file."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ranker import contract
from ranker.client import App
from ranker.encode import legal_text, stored
from ranker.errors import ArtifactError, DataError
from ranker.files import write_failure
from ranker.manifest import Manifest
from ranker.records import Document

__all__ = ["legal_document", "operations", "put_operation", "tokenized", "write_operations"]

BATCH = 128
"""Documents in one call of the tokenizer: larger ones were not faster, and make bursts."""

LONGEST_ID = 65536
"""Characters of a document id, namespace and type included (`vespa-facts` §4)."""


def put_operation(document: Document, ids: Sequence[int], manifest: Manifest) -> dict[str, Any]:
    """The operation that puts a document.

    Args:
        document: texts that Vespa refuses a code point of are cleaned.
        ids: token ids of the document, at most `spec.document_tokens`.
        manifest: the application's.

    Returns:
        `{"put": "id:NAMESPACE:SCHEMA::ID", "fields": {…}}`, a line for `vespa feed`.

    Raises:
        DataError: the document's id cannot be one in Vespa.
    """
    spec = manifest.spec
    clean = legal_document(document)
    return {
        "put": f"id:{manifest.namespace}:{manifest.schema}::{_checked_id(document.doc_id)}",
        "fields": {
            contract.ID: clean.doc_id,
            contract.TITLE: clean.title,
            contract.TEXT: clean.text,
            # A list of numbers: 247 bytes for a title, where hex digits take 760; reading and
            # writing it costs 3 microseconds more.
            contract.DOC_TOKEN_IDS: {"values": stored(ids, spec.document_tokens)},
            contract.TOKEN_SPEC: spec.fingerprint_number,
        },
    }


def operations(documents: Iterable[Document], app: App) -> Iterator[dict[str, Any]]:
    """Put operations of a stream of documents, tokenized in batches; memory of one batch.

    Raises:
        DataError: a document's id cannot be one in Vespa.
    """
    for document, ids in tokenized(documents, app):
        yield put_operation(document, ids, app.manifest)


def write_operations(documents: Iterable[Document], app: App, path: Path) -> int:
    """Write put operations as JSON lines, for `vespa feed`; the file is whole or absent.

    Returns:
        How many documents were written.

    Raises:
        DataError: a document's id cannot be one in Vespa.
        ArtifactError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for operation in operations(documents, app):
                file.write(json.dumps(operation) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {write_failure(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def tokenized(documents: Iterable[Document], app: App) -> Iterator[tuple[Document, list[int]]]:
    """Documents with their token ids, in order."""
    for batch in _batches(documents):
        yield from zip(batch, app.encoder.documents_ids(batch), strict=True)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Lists of at most BATCH; where the source breaks off, what it gave comes before its error."""
    source, batch = iter(documents), list[Document]()
    while True:
        try:
            batch.extend(islice(source, BATCH))
        except Exception:
            yield batch
            raise
        if not batch:
            return
        yield batch
        batch = []


def legal_document(document: Document) -> Document:
    """The document without code points that Vespa refuses; the same object if it has none."""
    title, text = legal_text(document.title), legal_text(document.text)
    if title == document.title and text == document.text:
        return document
    return Document(document.doc_id, title, text)


def _checked_id(doc_id: str) -> str:
    if not doc_id:
        raise DataError("a document has an empty id; give every document one of its own")
    if legal_text(doc_id) != doc_id:
        raise DataError(f"the document id {doc_id!r} holds a character that Vespa refuses")
    if doc_id in (".", ".."):
        raise DataError(f"the document id {doc_id!r} cannot be part of a URL; give it another")
    if len(doc_id) > LONGEST_ID - 1000:
        raise DataError(
            f"a document id of {len(doc_id)} characters is too long for Vespa "
            f"(at most {LONGEST_ID}): {doc_id[:40]!r}…"
        )
    return doc_id
