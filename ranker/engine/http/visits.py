"""Visiting: all documents of a path, page by page, in the order in which they first came."""

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
from ranker.engine.http.paths import Target, integer_of
from ranker.engine.query.request import seconds
from ranker.engine.storage.reader import Reader

__all__ = ["Page", "Visit", "fields_of", "parse_sweep", "parse_visit"]

MOST_DOCUMENTS = 1024
"""On a page, as Vespa's own limit is."""

TIME_CHUNK = "60"
"""Seconds after which an operation on many documents answers with what it has done so far."""

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
        target: the path.
        fields: renders a document's fields.
        selected: the selection; None for all.
        after: row after which the page starts.
        wanted: documents on a page.
        slices, slice_id: the part of the documents that this visit is to see.
        empty: whether it asks for the bucket space of global documents, which has none.
    """

    target: Target
    fields: Fields
    selected: Condition | None
    after: int
    wanted: int
    slices: int
    slice_id: int
    empty: bool

    def page(self, reader: Reader, *, timeout_s: float) -> Page:
        """The next page; shorter than wanted where the time is over."""
        documents: list[dict[str, Any]] = []
        after, end = self.after, time.monotonic() + timeout_s
        while not self.empty:
            chunk = reader.scan(after, MOST_DOCUMENTS)
            for row, id_, document in chunk:
                after = row
                if self._sees(row, id_, document):
                    documents.append({"id": id_, "fields": self.fields(document)})
                    if len(documents) >= self.wanted:
                        more = bool(reader.scan(after, 1))
                        return Page(documents, _token(after) if more else None)
            if len(chunk) < MOST_DOCUMENTS:
                break
            if time.monotonic() >= end:
                return Page(documents, _token(after))
        return Page(documents, None)

    def following(self, page: Page) -> "Visit":
        """The visit of what comes after a page that is not the last."""
        return replace(self, after=_row(page.continuation))

    def stream(self, reader: Reader) -> Iterator[dict[str, Any]]:
        """All documents from here on."""
        after = self.after
        while not self.empty and (chunk := reader.scan(after, MOST_DOCUMENTS)):
            for row, id_, document in chunk:
                after = row
                if self._sees(row, id_, document):
                    yield {"id": id_, "fields": self.fields(document)}

    def _sees(self, row: int, id_: str, document: StoredDocument) -> bool:
        if row % self.slices != self.slice_id or not self.target.holds(id_):
            return False
        return self.selected is None or self.selected(id_, document)


def parse_sweep(
    target: Target, pairs: Mapping[str, str], manifest: Manifest
) -> tuple[Visit, float]:
    """The visit behind an operation on many documents, which sees their ids only.

    Returns:
        The visit, and its time in seconds.

    Raises:
        DocumentError: 400, a parameter is missing, has no place here, or cannot be so.
    """
    for name in ("concurrency", "fieldSet", "route", "wantedDocumentCount"):
        if name in pairs:
            raise DocumentError(400, f"May not specify '{name}' at '{target.path}'")
    for name in ("selection", "cluster"):
        if name not in pairs:
            raise DocumentError(400, f"Must specify '{name}' at '{target.path}'")
    visit = parse_visit(target, {**pairs, "fieldSet": "[id]"}, manifest)
    text = pairs.get("timeChunk", TIME_CHUNK)
    try:
        return replace(visit, wanted=MOST_DOCUMENTS), seconds(text)
    except ValueError as error:
        raise DocumentError(400, f"Failed parsing '{text}': {error}") from error


def parse_visit(target: Target, pairs: Mapping[str, str], manifest: Manifest) -> Visit:
    """The visit of a request.

    Raises:
        DocumentError: 400, a parameter has a value that cannot be.
    """
    for name in _UNSUPPORTED:
        if pairs.get(name, "false") not in ("false", "0"):
            raise DocumentError(400, f"'{name}' is not supported by the embedded engine")
    if target.namespace is None and "cluster" not in pairs:
        raise DocumentError(
            400,
            "Must set 'cluster' parameter to a valid content cluster id when visiting at a root "
            "/document/v1/ level",
        )
    if ("slices" in pairs) != ("sliceId" in pairs):
        raise DocumentError(400, "None or both of 'slices' and 'sliceId' must be set")
    slices = _positive(pairs, "slices", 1)
    slice_id = _number(pairs, "sliceId", 0)
    if not 0 <= slice_id < slices:
        raise DocumentError(400, f"sliceId must be in [0, {slices}), but was {slice_id}")
    _positive(pairs, "concurrency", 1)
    space = pairs.get("bucketSpace", "default")
    if space not in ("default", "global"):
        raise DocumentError(400, f"Unknown bucket space '{space}', expected default or global")
    selection = pairs.get("selection")
    return Visit(
        target=target,
        fields=fields_of(pairs.get("fieldSet"), manifest),
        selected=parse_condition(selection, manifest.schema) if selection else None,
        after=_row(pairs.get("continuation")),
        wanted=min(_positive(pairs, "wantedDocumentCount", 1), MOST_DOCUMENTS),
        slices=slices,
        slice_id=slice_id,
        empty=space == "global",
    )


def fields_of(field_set: str | None, manifest: Manifest) -> Fields:
    """How documents are rendered under a `fieldSet`.

    Raises:
        DocumentError: 400, it is none.
    """
    names = (field_set or "[document]").removeprefix(f"{manifest.schema}:")
    if names in ("[document]", "[all]"):
        return lambda document: rendered_fields(document, manifest)
    if names in ("[id]", "[none]", "[docid]"):
        return lambda document: {}
    wanted = names.split(",")
    for name in wanted:
        if name not in DOCUMENT_FIELDS:
            raise DocumentError(
                400, f"No such field '{name}' in field set '{field_set}' of {manifest.schema}"
            )
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
        raise DocumentError(400, f"Failed parsing continuation token '{token}'")
    return int(row)


def _number(pairs: Mapping[str, str], name: str, default: int) -> int:
    return integer_of(pairs.get(name, str(default)))


def _positive(pairs: Mapping[str, str], name: str, default: int) -> int:
    value = _number(pairs, name, default)
    if value < 1:
        raise DocumentError(400, f"{name} must be positive, but was {value}")
    return value
