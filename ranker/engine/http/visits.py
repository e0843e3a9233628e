"""Visiting: all documents of a path, page by page, in the order in which they first arrived."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.contract import vespa_names
from ranker.contract.fields import DOCUMENT_FIELDS
from ranker.engine.documents.conditions import Condition, parse_condition
from ranker.engine.documents.stored_document import StoredDocument, rendered_fields
from ranker.engine.errors import DocumentError
from ranker.engine.http.paths import Target, duration_of, integer_of
from ranker.engine.storage.reader import Reader

__all__ = ["Page", "Visit", "fields_of", "parse_sweep", "parse_visit"]

MOST_DOCUMENTS = 1024
"""Documents on a page, as in Vespa."""

TIME_CHUNK = "60"
"""Seconds after which an operation on many documents reports what it has done so far."""

_UNSUPPORTED = ("fromTimestamp", "toTimestamp", "includeRemoves")

Fields = Callable[[StoredDocument], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Page:
    """Documents of a visit, and where the next page starts; None after the last."""

    documents: list[dict[str, Any]]
    continuation: str | None


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A visit as a request asks for it.

    Attributes:
        prefix: what the ids of the documents begin with.
        fields: renders a document's fields.
        selected: the selection; None for all.
        after: row after which the page starts.
        wanted: number of documents on a page.
        slices, slice_id: the number of parts into which the documents are divided, and this part.
        empty: True if it asks for the bucket space of global documents, which has none.
    """

    prefix: str
    fields: Fields
    selected: Condition | None
    after: int
    wanted: int
    slices: int
    slice_id: int
    empty: bool

    def page(self, reader: Reader, *, timeout_s: float) -> Page:
        """Return the next page; shorter than wanted if time runs out."""
        documents: list[dict[str, Any]] = []
        after, end = self.after, time.monotonic() + timeout_s
        while not self.empty:
            chunk = reader.scan(after, MOST_DOCUMENTS)
            for row, document in chunk:
                after = row
                if self._sees(row, document):
                    documents.append(self._rendered(document))
                    if len(documents) >= self.wanted:
                        more = bool(reader.scan(after, 1))
                        return Page(documents, _token(after) if more else None)
            if len(chunk) < MOST_DOCUMENTS:
                break
            if time.monotonic() >= end:
                return Page(documents, _token(after))
        return Page(documents, None)

    def following(self, page: Page) -> "Visit":
        """Return the visit that continues after a page that is not the last."""
        return replace(self, after=_row(page.continuation))

    def stream(self, reader: Reader) -> Iterator[dict[str, Any]]:
        """Yield all documents from the start of the page on."""
        after = self.after
        while not self.empty and (chunk := reader.scan(after, MOST_DOCUMENTS)):
            for row, document in chunk:
                after = row
                if self._sees(row, document):
                    yield self._rendered(document)

    def _sees(self, row: int, document: StoredDocument) -> bool:
        if row % self.slices != self.slice_id or not document.document_id.startswith(self.prefix):
            return False
        return self.selected is None or self.selected(document)

    def _rendered(self, document: StoredDocument) -> dict[str, Any]:
        return {"id": document.document_id, "fields": self.fields(document)}


def parse_sweep(
    target: Target, pairs: Mapping[str, str], manifest: Manifest
) -> tuple[Visit, float]:
    """Return the visit of an operation on many documents, which reads their ids only.

    Returns:
        The visit, and its time in seconds.

    Raises:
        DocumentError: 400, a parameter is missing, has no meaning here, or has an illegal value.
    """
    for name in ("concurrency", "fieldSet", "route", "wantedDocumentCount"):
        if name in pairs:
            raise DocumentError(400, f"'{name}' has no meaning for many documents; remove it")
    for name in ("selection", "cluster"):
        if name not in pairs:
            raise DocumentError(400, f"expected the parameter '{name}' at '{target.path}'")
    visit = parse_visit(target, {**pairs, "fieldSet": "[id]"}, manifest)
    chunk_s = duration_of("timeChunk", pairs.get("timeChunk", TIME_CHUNK))
    return replace(visit, wanted=MOST_DOCUMENTS), chunk_s


def parse_visit(target: Target, pairs: Mapping[str, str], manifest: Manifest) -> Visit:
    """Return the visit of a request.

    Raises:
        DocumentError: 400, a parameter is missing or has an illegal value.
    """
    for name in _UNSUPPORTED:
        if pairs.get(name, "false") not in ("false", "0"):
            raise DocumentError(400, f"'{name}' is not supported by the embedded engine")
    # Without a document type, only the parameter says which cluster is meant.
    if target.schema is None and "cluster" not in pairs:
        raise DocumentError(400, f"expected the parameter 'cluster' at '{target.path}'")
    if ("slices" in pairs) != ("sliceId" in pairs):
        raise DocumentError(400, "expected both of 'slices' and 'sliceId', or neither")
    slices = _positive(pairs, "slices")
    slice_id = integer_of("sliceId", pairs.get("sliceId", "0"))
    if not 0 <= slice_id < slices:
        raise DocumentError(400, f"'sliceId': expected 0 to {slices - 1}, got {slice_id}")
    _positive(pairs, "concurrency")
    space = pairs.get("bucketSpace", "default")
    if space not in ("default", "global"):
        raise DocumentError(400, f"'bucketSpace': expected default or global, got '{space}'")
    selection = pairs.get("selection")
    return Visit(
        prefix=target.prefix,
        fields=fields_of(pairs.get("fieldSet"), manifest),
        selected=parse_condition(selection, manifest.schema) if selection else None,
        after=_row(pairs.get("continuation")),
        wanted=min(_positive(pairs, "wantedDocumentCount"), MOST_DOCUMENTS),
        slices=slices,
        slice_id=slice_id,
        empty=space == "global",
    )


def fields_of(field_set: str | None, manifest: Manifest) -> Fields:
    """Return what renders documents under a `fieldSet`.

    Raises:
        DocumentError: 400, there is no such field or field set.
    """
    names = (field_set or "[document]").removeprefix(f"{manifest.schema}:")
    if names in ("[document]", "[all]"):
        return lambda document: rendered_fields(document, manifest)
    if names in ("[id]", "[none]", "[docid]"):
        return lambda document: {}
    wanted = names.split(",")
    for name in wanted:
        if name not in DOCUMENT_FIELDS:
            expected = ", ".join(DOCUMENT_FIELDS)
            raise DocumentError(400, f"'fieldSet': expected some of {expected}, got '{name:.80}'")
    return lambda document: {
        k: v for k, v in rendered_fields(document, manifest).items() if k in wanted
    }


def _token(row: int) -> str:
    return f"{vespa_names.NAMESPACE}-{row}"


def _row(token: str | None) -> int:
    if token is None:
        return 0
    prefix, _, row = token.rpartition("-")
    if prefix != vespa_names.NAMESPACE or not row.isdecimal():
        raise DocumentError(
            400, f"'continuation': expected a token of this engine, got '{token:.80}'"
        )
    return int(row)


def _positive(pairs: Mapping[str, str], name: str) -> int:
    value = integer_of(name, pairs.get(name, "1"))
    if value < 1:
        raise DocumentError(400, f"'{name}': expected at least 1, got {value}")
    return value
