"""The request line as Vespa's HTTP server reads it: what it refuses, and the path it makes of it.

Seen at the real front door (8.700.24): a path is matched as it was sent, still encoded, after
repeated slashes and steps of dots are gone; a character that a URI cannot have, a broken escape or
one that is not UTF-8 is a 400 before anything reads the request.
"""

import re
import urllib.parse
from collections.abc import MutableMapping
from typing import Any

__all__ = ["METHODS", "BadUri", "check_escapes", "read_uri"]

METHODS = frozenset("GET POST PUT DELETE PATCH OPTIONS HEAD TRACE".split())
"""Any other is a 405 without a body."""

_NOT_IN_PATH = re.compile(rb"[^!$%&-;=@A-Z_a-z~]|%00")
_BROKEN = re.compile(rb"%(?![0-9A-Fa-f]{2}).{0,2}")
_NOT_IN_QUERY = re.compile(rb'[\x00-\x20"<>\\^`{|}\x7f]')


class BadUri(Exception):
    """A request line that no handler sees."""


def read_uri(scope: MutableMapping[str, Any]) -> str:
    """The path of an ASGI request as it is matched, also written into the scope.

    Raises:
        BadUri: path or query has a character or an escape that a URI cannot have.
    """
    raw = scope.get("raw_path") or scope["path"].encode()
    path, query = raw.partition(b"?")[0], scope["query_string"]
    _check_part("path", path, _NOT_IN_PATH)
    _check_part("query", query, _NOT_IN_QUERY)
    if b"//" in path or b"/." in path:
        path = _without_detours(path)
    scope["raw_path"] = path
    scope["path"] = path.decode("ascii")
    return str(scope["path"])


def check_escapes(name: str, part: bytes) -> None:
    """Check the percent escapes of a part, called `name`, of a URI or a form.

    Raises:
        BadUri: one is broken or not UTF-8.
    """
    if b"%" not in part:
        return
    broken = _BROKEN.search(part)
    if broken:
        raise BadUri(f"Bad URI: the {name} has the escape {broken[0]!r} at {broken.start()}")
    if part.isascii():
        try:
            urllib.parse.unquote_to_bytes(part).decode()
        except UnicodeDecodeError as error:
            raise BadUri(f"Bad URI: the {name} is not UTF-8: {error}") from error


def _check_part(name: str, part: bytes, illegal: re.Pattern[bytes]) -> None:
    found = illegal.search(part)
    if found:
        raise BadUri(f"Bad URI: the {name} cannot have {found[0]!r}, at {found.start()}")
    check_escapes(name, part)


def _without_detours(path: bytes) -> bytes:
    """The path without empty steps and `.`, and without what `..` takes back."""
    steps: list[bytes] = []
    *inner, last = path.split(b"/")
    for step in inner:
        if step == b"..":
            del steps[-1:]
        elif step not in (b"", b"."):
            steps.append(step)
    if last == b"..":
        del steps[-1:]
    last = b"" if last in (b".", b"..") else last
    return b"/" + b"/".join([*steps, last])
