"""Paths of the document API: `/document/v1/{namespace}/{type}/docid/{id}` and its sisters."""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from ranker.contract.encode import sanitize_text
from ranker.engine.errors import DocumentError
from ranker.engine.query.request import CLUSTER, seconds

__all__ = ["PREFIX", "Target", "checked_parameters", "integer_of", "target_of"]

PREFIX = "/document/v1/"
LONGEST_ID = 65536

_PATHS = "".join(
    f"\n{PREFIX}{path}"
    for path in (
        "",
        "{namespace}/{documentType}/docid/",
        "{namespace}/{documentType}/group/{group}/",
        "{namespace}/{documentType}/number/{number}/",
        "{namespace}/{documentType}/docid/{*}",
        "{namespace}/{documentType}/group/{group}/{*}",
        "{namespace}/{documentType}/number/{number}/{*}",
    )
)
_READ = {
    "GET": ("cluster", "fieldSet", "timeout", "tracelevel"),
    "POST": ("condition", "create", "route", "timeout", "tracelevel"),
    "PUT": ("condition", "create", "route", "timeout", "tracelevel"),
    "DELETE": ("condition", "route", "timeout", "tracelevel"),
}
"""The parameters that an operation on one document looks at; it leaves any other aside."""

_READ_BY_MANY = (
    "bucketSpace cluster concurrency continuation fieldSet route selection sliceId slices timeout "
    "tracelevel wantedDocumentCount"
).split()


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: one document, or many to visit.

    Attributes:
        path: the path as it came.
        namespace, type: None at the root.
        location: `n=1`, `g=x` or nothing, as in a document id.
        user_id: the user's part of the id; None for a visit.
    """

    path: str
    namespace: str | None = None
    type: str | None = None
    location: str = ""
    user_id: str | None = None

    @property
    def id(self) -> str:
        """The document's id."""
        return f"id:{self.namespace}:{self.type}:{self.location}:{self.user_id}"

    def holds(self, id_: str) -> bool:
        """Whether a visit of this path sees a document."""
        if self.namespace is None:
            return True
        location = f"{self.location}:" if self.location else ""
        return id_.startswith(f"id:{self.namespace}:{self.type}:{location}")


def target_of(path: str) -> Target:
    """The target of a raw, still encoded path.

    Raises:
        DocumentError: 404 there is nothing at that path, or 400 the id cannot be.
    """
    parts = path.removeprefix(PREFIX).split("/")
    if parts == [""]:
        return Target(path)
    try:
        texts = [_decoded(part) for part in parts]
    except UnicodeDecodeError as error:
        raise DocumentError(400, f"the path is not UTF-8: {error}") from error
    kind = texts[2] if len(texts) > 2 else ""
    if kind == "docid":
        location, rest = "", texts[3:]
    elif kind in ("number", "group") and len(texts) > 3 and texts[3]:
        if kind == "number":
            integer_of(texts[3], bits=63)
        location, rest = f"{kind[0]}={texts[3]}", texts[4:]
    else:
        raise DocumentError(404, f"Nothing at '{path}'. Available paths are:{_PATHS}")
    target = Target(path, texts[0], texts[1], location, "/".join(rest) or None)
    return _checked(target)


def checked_parameters(method: str, target: Target, pairs: Mapping[str, str]) -> float:
    """Check the parameters that an operation of this kind looks at.

    Returns:
        The timeout in seconds.

    Raises:
        DocumentError: 400, one has a value that cannot be.
    """
    read = _READ_BY_MANY if target.user_id is None else _READ[method]
    for name in read:
        if pairs.get(name) == "":
            raise DocumentError(400, f"Expected non-empty value for request property '{name}'")
    cluster = pairs.get("cluster", CLUSTER)
    if "cluster" in read and cluster != CLUSTER:
        raise DocumentError(
            400, f"Your Vespa deployment has no content cluster '{cluster}', only '{CLUSTER}'"
        )
    integer_of(pairs.get("tracelevel", "0"))
    try:
        return seconds(pairs.get("timeout", "180"))
    except ValueError as error:
        raise DocumentError(400, f"Failed parsing '{pairs['timeout']}': {error}") from error


def integer_of(text: str, *, bits: int = 31) -> int:
    """A parameter's value as a signed integer with so many bits before the sign's.

    Raises:
        DocumentError: 400, it is none.
    """
    if not re.fullmatch(r"[+-]?\d+", text) or not -(1 << bits) <= int(text) < 1 << bits:
        raise DocumentError(400, f"Failed parsing '{text}': For input string: \"{text}\"")
    return int(text)


def _decoded(part: str) -> str:
    return urllib.parse.unquote(part, errors="strict") if "%" in part else part


def _checked(target: Target) -> Target:
    if target.user_id is None:
        return target
    # A colon in namespace or type moves what follows into the place of the key-value pair.
    pair = target.id.split(":", 4)[3]
    if pair != target.location.partition(":")[0]:
        raise DocumentError(400, f"Illegal key-value pair '{pair}'")
    clean = sanitize_text(target.id)
    if clean != target.id:
        bad = next(old for old, new in zip(target.id, clean, strict=True) if old != new)
        raise DocumentError(
            400, f"Unparseable id '{target.id}': Contains illegal code point 0x{ord(bad):X}"
        )
    if len(target.id) > LONGEST_ID:
        raise DocumentError(
            400, f"Document id length {len(target.id)} is longer than max length of {LONGEST_ID}"
        )
    return target
