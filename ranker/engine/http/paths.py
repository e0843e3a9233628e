"""Paths of the document API: `/document/v1/{namespace}/{type}/docid/{id}` and its siblings."""

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from ranker.contract.document_id import DOCUMENT_API, LONGEST_ID, DocumentId
from ranker.contract.encode import sanitize_text
from ranker.engine.errors import DocumentError
from ranker.engine.query.properties import seconds, whole
from ranker.engine.query.request import CLUSTER

__all__ = ["Target", "check_parameters", "duration_of", "integer_of", "target_of"]

_READ = {
    "GET": ("cluster", "fieldSet", "timeout", "tracelevel"),
    "POST": ("condition", "create", "route", "timeout", "tracelevel"),
    "PUT": ("condition", "create", "route", "timeout", "tracelevel"),
    "DELETE": ("condition", "route", "timeout", "tracelevel"),
}
"""The parameters that an operation on one document reads; it ignores any other."""

_READ_BY_MANY = (
    "bucketSpace cluster concurrency continuation fieldSet route selection sliceId slices timeout "
    "tracelevel wantedDocumentCount"
).split()


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: one document, or all documents whose ids have a prefix.

    Attributes:
        path: the path as it was sent.
        document_id: the one document; None for many.
        schema: the document type; None at the root.
        prefix: what the ids of many documents begin with.
    """

    path: str
    document_id: DocumentId | None = None
    schema: str | None = None
    prefix: str = ""


def target_of(path: str) -> Target:
    """Return the target of a raw, still encoded path.

    Raises:
        DocumentError: 404 where nothing has such a path, 400 for an illegal id.
    """
    parts = path.removeprefix(DOCUMENT_API).split("/")
    if parts == [""]:
        return Target(path)
    try:
        texts = [urllib.parse.unquote(part, errors="strict") for part in parts]
    except UnicodeDecodeError as error:
        raise DocumentError(400, f"the path is not UTF-8: {error}") from error
    # An id may contain slashes: all segments after the location belong to it.
    kind = texts[2] if len(texts) > 2 else ""
    location, rest = "", texts[3:]
    if kind in ("number", "group") and rest and rest[0]:
        value = rest.pop(0)
        if kind == "number":
            integer_of(kind, value, bits=64)
        location = f"{kind[0]}={value}"
    elif kind != "docid":
        base = f"{DOCUMENT_API}NAMESPACE/TYPE"
        raise DocumentError(
            404,
            f"nothing at '{path}'; expected {base}/docid/ID, {base}/number/NUMBER/ID or "
            f"{base}/group/GROUP/ID, each without ID for all documents, or {DOCUMENT_API}",
        )
    (namespace, schema), doc_id = texts[:2], "/".join(rest)
    if not doc_id:
        prefix = f"id:{namespace}:{schema}:" + (f"{location}:" if location else "")
        return Target(path, schema=schema, prefix=prefix)
    document_id = DocumentId(namespace, schema, doc_id, location)
    _check_id(document_id)
    return Target(path, document_id, schema)


def check_parameters(method: str, target: Target, pairs: Mapping[str, str]) -> float:
    """Check the parameters that an operation of this kind reads.

    Returns:
        The timeout in seconds.

    Raises:
        DocumentError: 400, a parameter has an illegal value.
    """
    read = _READ_BY_MANY if target.document_id is None else _READ[method]
    for name in read:
        if pairs.get(name) == "":
            raise DocumentError(400, f"'{name}': expected a value, got an empty one")
    cluster = pairs.get("cluster", CLUSTER)
    if "cluster" in read and cluster != CLUSTER:
        # `vespa visit` asks for an unlikely cluster and reads the names after the comma.
        raise DocumentError(400, f"there is no content cluster '{cluster}', only '{CLUSTER}'")
    integer_of("tracelevel", pairs.get("tracelevel", "0"))
    return duration_of("timeout", pairs.get("timeout", "180"))


def integer_of(name: str, text: str, *, bits: int = 32) -> int:
    """Read a parameter as a signed integer.

    Raises:
        DocumentError: 400, the text is not one.
    """
    number = whole(text, bits=bits)
    if number is None:
        raise DocumentError(400, f"'{name}': expected a whole number, got '{text:.80}'")
    return number


def duration_of(name: str, text: str) -> float:
    """Read a parameter as a duration in seconds.

    Raises:
        DocumentError: 400, the text is not one.
    """
    try:
        return seconds(text)
    except ValueError as error:
        raise DocumentError(400, f"'{name}': {error}") from error


def _check_id(document_id: DocumentId) -> None:
    text = str(document_id)
    # A colon in the namespace or the type shifts what follows to the place of the location.
    if text.split(":", 4)[3] != document_id.location.partition(":")[0]:
        raise DocumentError(400, f"the id '{text:.80}' has a colon in its namespace or type")
    if sanitize_text(text) != text:
        bad = next(old for old, new in zip(text, sanitize_text(text), strict=True) if old != new)
        raise DocumentError(400, f"the id {text!r:.80} has an illegal character 0x{ord(bad):X}")
    if len(text) > LONGEST_ID:
        raise DocumentError(
            400, f"expected a document id of at most {LONGEST_ID} characters, got {len(text)}"
        )
