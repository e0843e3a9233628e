"""A document as an operation of Vespa's document API, with its token ids; pure but for one file."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.client.search import App
from ranker.contract.encode import sanitize_text
from ranker.errors import DataError
from ranker.files import new_file
from ranker.records import Document

__all__ = [
    "SchemaDocument",
    "Source",
    "legal_document",
    "operation_of",
    "operations",
    "put_operation",
    "tokenized",
    "write_operations",
]

_SELECTED = re.compile(r"n=[0-9]+|g=[^:]+")

BATCH = 128
"""Documents in one call of the tokenizer: larger ones were not faster, and make bursts."""

LONGEST_ID = 65536
"""Characters of a document id, namespace and type included (`vespa-facts` §4)."""


@dataclass(frozen=True, slots=True)
class SchemaDocument:
    """A document under the names of the schema, as `vespa visit` writes it and `vespa feed` reads.

    Attributes:
        doc_id: Vespa's id of it, as `id:NAMESPACE:SCHEMA::ID`.
        fields: its fields; those that the model does not need are fed as they are.
    """

    doc_id: str
    fields: dict[str, Any]


Source = Document | SchemaDocument


def put_operation(document: Source, ids: Sequence[int], manifest: Manifest) -> dict[str, Any]:
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
    clean = legal_document(document)
    if isinstance(clean, SchemaDocument):
        put, fields = _checked_schema_id(clean.doc_id, manifest), clean.fields
    else:
        put = f"id:{manifest.namespace}:{manifest.schema}::{_checked_id(clean.doc_id)}"
        own_id = {} if manifest.id_field is None else {manifest.id_field: clean.doc_id}
        fields = {**own_id, **manifest.texts_of(clean)}
    return {"put": put, "fields": {**fields, **_token_fields(ids, manifest)}}


def operation_of(document: Source, rows: Sequence[Sequence[int]], app: App) -> dict[str, Any]:
    """The operation that puts a document, with the token ids of every model of the schema.

    Args:
        document: as for `put_operation`.
        rows: ids for the app's model, then for each of `app.others`.
        app: the application.

    Raises:
        DataError: the document's id cannot be one in Vespa.
    """
    made = put_operation(document, rows[0], app.manifest)
    for other, ids in zip(app.others, rows[1:], strict=True):
        made["fields"].update(_token_fields(ids, other.manifest))
    return made


def operations(documents: Iterable[Source], app: App) -> Iterator[dict[str, Any]]:
    """Put operations of a stream of documents, tokenized in batches; memory of one batch.

    Raises:
        DataError: a document's id cannot be one in Vespa.
    """
    for document, rows in tokenized(documents, app):
        yield operation_of(document, rows, app)


def write_operations(documents: Iterable[Source], app: App, path: Path) -> int:
    """Write put operations as JSON lines, for `vespa feed`; the file is whole or absent.

    Returns:
        How many documents were written.

    Raises:
        DataError: a document's id cannot be one in Vespa.
        ArtifactError: the file cannot be written.
    """
    count = 0
    with new_file(path) as file:
        for operation in operations(documents, app):
            file.write(json.dumps(operation) + "\n")
            count += 1
    return count


def tokenized(
    documents: Iterable[Source], app: App
) -> Iterator[tuple[Source, tuple[list[int], ...]]]:
    """Documents in order, with token ids for the app's model and for each of `app.others`."""
    for batch in _batches(documents):
        rows = [
            part.encoder.documents_ids([_seen(one, part, app) for one in batch])
            for part in (app, *app.others)
        ]
        yield from zip(batch, zip(*rows, strict=True), strict=True)


def _seen(document: Source, part: App, app: App) -> Document:
    """What a model sees of a document."""
    if isinstance(document, SchemaDocument):
        return part.manifest.document_of(document.doc_id, document.fields)
    if part is app:
        return document
    return part.manifest.document_of(document.doc_id, app.manifest.texts_of(document))


def _token_fields(ids: Sequence[int], manifest: Manifest) -> dict[str, Any]:
    spec = manifest.spec
    return {
        # A list of numbers: 247 bytes for a title, where hex digits take 760; reading and
        # writing it costs 3 microseconds more.
        manifest.token_field: {"values": manifest.storage.pack(ids, spec.document_tokens)},
        manifest.fingerprint_field: spec.fingerprint_number,
    }


def _batches(documents: Iterable[Source]) -> Iterator[list[Source]]:
    """Lists of at most BATCH; where the source breaks off, what it gave comes before its error."""
    source, batch = iter(documents), list[Source]()
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


def legal_document(document: Source) -> Source:
    """The document without code points that Vespa refuses; the same object if it has none."""
    if isinstance(document, SchemaDocument):
        texts = {name: value for name, value in document.fields.items() if isinstance(value, str)}
        clean = {name: sanitize_text(value) for name, value in texts.items()}
        if clean == texts:
            return document
        return SchemaDocument(document.doc_id, {**document.fields, **clean})
    title, text = sanitize_text(document.title), sanitize_text(document.text)
    if title == document.title and text == document.text:
        return document
    return Document(document.doc_id, title, text)


def _checked_schema_id(doc_id: str, manifest: Manifest) -> str:
    parts = doc_id.split(":", 4)
    if len(parts) < 5 or parts[0] != "id" or not parts[1]:
        raise DataError(f"expected a document id like id:NAMESPACE:SCHEMA::ID, got {doc_id!r}")
    if parts[2] != manifest.schema:
        raise DataError(
            f"the document {doc_id!r} is of type {parts[2]}; the model is for {manifest.schema}"
        )
    if parts[3] and not _SELECTED.fullmatch(parts[3]):
        raise DataError(f"the document id {doc_id!r} has {parts[3]!r}, expected n=NUMBER or g=NAME")
    group = [parts[3].partition("=")[2]] if parts[3] else []
    for part in (parts[1], *group, parts[4]):
        _checked_id(part)
    return doc_id


def _checked_id(doc_id: str) -> str:
    if not doc_id:
        raise DataError("a document has an empty id; give every document one of its own")
    if sanitize_text(doc_id) != doc_id:
        raise DataError(f"the document id {doc_id!r} holds a character that Vespa refuses")
    if doc_id in (".", ".."):
        raise DataError(f"the document id {doc_id!r} cannot be part of a URL; give it another")
    if len(doc_id) > LONGEST_ID - 1000:
        raise DataError(
            f"a document id of {len(doc_id)} characters is too long for Vespa "
            f"(at most {LONGEST_ID}): {doc_id[:40]!r}…"
        )
    return doc_id
