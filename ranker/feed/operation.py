"""A document as an operation of Vespa's document API, with its token ids; pure but for one file."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.client.search import App
from ranker.contract.document_id import DocumentId
from ranker.contract.encode import sanitize_text
from ranker.errors import DataError
from ranker.files import new_file
from ranker.records import Document

__all__ = [
    "Put",
    "SchemaDocument",
    "Source",
    "Tokenized",
    "operations",
    "tokenized",
    "write_operations",
]

BATCH = 128
"""Documents in one call of the tokenizer: larger ones were not faster, and make bursts."""


@dataclass(frozen=True, slots=True)
class SchemaDocument:
    """A document under the names of the schema, as `vespa visit` writes it and `vespa feed` reads.

    Attributes:
        document_id: Vespa's id of it, as `id:NAMESPACE:SCHEMA::ID`.
        fields: its fields; those that the model does not need are fed as they are.
    """

    document_id: str
    fields: dict[str, Any]


Source = Document | SchemaDocument


@dataclass(frozen=True, slots=True)
class Put:
    """The operation that puts a document.

    https://docs.vespa.ai/en/reference/schemas/document-json-format.html

    Attributes:
        document_id: Vespa's id of the document.
        fields: all its fields, token ids included.
    """

    document_id: DocumentId
    fields: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, as in a line for `vespa feed`."""
        return {"put": str(self.document_id), "fields": self.fields}

    def body(self) -> bytes:
        """Return the body of the request that puts the document."""
        return json.dumps({"fields": self.fields}).encode()


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A document on its way from the source to Vespa.

    Attributes:
        document: the document, its texts without code points that Vespa refuses.
        sanitized: True where it had such code points.
        ids: token ids for the application's model, then for each of `app.others`.
    """

    document: Source
    sanitized: bool
    ids: tuple[Sequence[int], ...]

    @property
    def name(self) -> str:
        """The document's id as the source has it."""
        if isinstance(self.document, SchemaDocument):
            return self.document.document_id
        return self.document.doc_id

    def put(self, app: App) -> Put:
        """Make the operation that puts the document.

        Raises:
            DataError: the document's id is not possible in Vespa.
        """
        manifest, document = app.manifest, self.document
        if isinstance(document, SchemaDocument):
            document_id, fields = DocumentId.parse(document.document_id), {**document.fields}
            if document_id.schema != manifest.schema:
                raise DataError(
                    f"the document {document.document_id!r} is of type {document_id.schema}; "
                    f"the model is for {manifest.schema}"
                )
        else:
            document_id = DocumentId(manifest.namespace, manifest.schema, document.doc_id)
            own_id = {} if manifest.id_field is None else {manifest.id_field: document.doc_id}
            fields = {**own_id, **manifest.texts_of(document)}
        document_id.require_legal()
        for part, ids in zip((app, *app.others), self.ids, strict=True):
            fields.update(_token_fields(ids, part.manifest))
        return Put(document_id, fields)


def operations(documents: Iterable[Source], app: App) -> Iterator[dict[str, Any]]:
    """Return the put operations of a stream of documents, tokenized in batches.

    Returns:
        `{"put": "id:NAMESPACE:SCHEMA::ID", "fields": {…}}` for each document, a line for
        `vespa feed`; memory does not grow beyond one batch.

    Raises:
        DataError: a document's id is not possible in Vespa.
    """
    for document in tokenized(documents, app):
        yield document.put(app).to_dict()


def write_operations(documents: Iterable[Source], app: App, path: Path) -> int:
    """Write put operations as JSON lines, for `vespa feed`; the file is whole or absent.

    Returns:
        The number of documents written.

    Raises:
        DataError: a document's id is not possible in Vespa.
        ArtifactError: the file cannot be written.
    """
    count = 0
    with new_file(path) as file:
        for operation in operations(documents, app):
            file.write(json.dumps(operation) + "\n")
            count += 1
    return count


def tokenized(documents: Iterable[Source], app: App) -> Iterator[Tokenized]:
    """Sanitize and tokenize documents, in order."""
    for batch in _batches(documents):
        clean = [_sanitized(document) for document in batch]
        rows = [
            part.encoder.documents_ids([_seen(document, part, app) for document in clean])
            for part in (app, *app.others)
        ]
        for before, document, *ids in zip(batch, clean, *rows, strict=True):
            yield Tokenized(document, document != before, tuple(ids))


def _sanitized(document: Source) -> Source:
    """Return the document without code points that Vespa refuses."""
    if isinstance(document, SchemaDocument):
        fields = {
            name: sanitize_text(value) if isinstance(value, str) else value
            for name, value in document.fields.items()
        }
        return SchemaDocument(document.document_id, fields)
    title, text = sanitize_text(document.title), sanitize_text(document.text)
    return Document(document.doc_id, title, text)


def _seen(document: Source, part: App, app: App) -> Document:
    """Return what a model sees of a document."""
    if isinstance(document, SchemaDocument):
        return part.manifest.document_of(document.document_id, document.fields)
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
    """Split a stream into lists of at most BATCH; what came before an error is not lost."""
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
