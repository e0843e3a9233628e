"""The request line as Vespa's HTTP server reads it: what it refuses, and how it matches the path.

Observed at Vespa's container (8.700.24): a path is matched as it was sent, still encoded, without
repeated slashes and dot segments; an illegal character, a broken escape or one that is not UTF-8 is
a 400 before anything reads the request.
"""

import re
import urllib.parse
from collections.abc import MutableMapping
from typing import Any

__all__ = ["METHODS", "UriError", "check_escapes", "is_search", "read_uri"]

METHODS = frozenset("GET POST PUT DELETE PATCH OPTIONS HEAD TRACE".split())
"""Any other method is a 405 without a body."""

# Observed: a query may contain characters, such as brackets, that a path may not.
_NOT_IN_PATH = re.compile(rb"[^!$%&-;=@A-Z_a-z~]|%00")
_BROKEN = re.compile(rb"%(?![0-9A-Fa-f]{2}).{0,2}")
_NOT_IN_QUERY = re.compile(rb'[\x00-\x20"<>\\^`{|}\x7f]')


class UriError(Exception):
    """A request line that reaches no handler."""


def read_uri(scope: MutableMapping[str, Any]) -> str:
    """Return the path of an ASGI request as it is matched, also written into the scope.

    Raises:
        UriError: path or query has an illegal character or escape.
    """
    raw = scope.get("raw_path") or scope["path"].encode()
    path, query = raw.partition(b"?")[0], scope["query_string"]
    _check_part("path", path, _NOT_IN_PATH)
    _check_part("query", query, _NOT_IN_QUERY)
    if b"//" in path or b"/." in path:
        path = _resolved(path)
    scope["raw_path"] = path
    scope["path"] = path.decode("ascii")
    return str(scope["path"])


def is_search(path: str) -> bool:
    """Return True for the path of a search, which may continue below `/search/`."""
    return path == "/search" or path.startswith("/search/")


def check_escapes(name: str, part: bytes) -> None:
    """Check the percent escapes of a part of a URI or a form.

    Args:
        name: the part's name, for the error.
        part: the part.

    Raises:
        UriError: an escape is broken or not UTF-8.
    """
    if b"%" not in part:
        return
    broken = _BROKEN.search(part)
    if broken:
        raise UriError(f"the {name} has a broken escape {broken[0]!r} at {broken.start()}")
    if part.isascii():
        try:
            urllib.parse.unquote_to_bytes(part).decode()
        except UnicodeDecodeError as error:
            raise UriError(f"the {name} is not UTF-8: {error}") from error


def _check_part(name: str, part: bytes, illegal: re.Pattern[bytes]) -> None:
    if character := illegal.search(part):
        raise UriError(
            f"the {name} has an illegal {character[0]!r} at {character.start()}; escape it"
        )
    check_escapes(name, part)


def _resolved(path: bytes) -> bytes:
    """Return the path without empty segments and `.`, and with `..` resolved."""
    segments: list[bytes] = []
    *inner, last = path.split(b"/")
    for segment in (*inner, last if last == b".." else b""):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    last = b"" if last in (b".", b"..") else last
    return b"/" + b"/".join([*segments, last])
