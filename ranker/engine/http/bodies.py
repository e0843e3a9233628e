"""Bodies of requests: whole, unpacked and within limits, or refused."""

import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

__all__ = ["BadBody", "TooLarge", "json_text", "read_body"]

LARGEST_BODY = 100 * 2**20
"""Bytes of a request, as in Vespa's container."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class TooLarge(Exception):
    """A body above the limit."""


class BadBody(Exception):
    """A body that was cut off, or whose encoding is broken."""


async def read_body(scope: Mapping[str, Any], receive: Receive) -> bytes:
    """The body of an ASGI request, unpacked.

    Raises:
        TooLarge: above the limit, packed or unpacked.
        BadBody: not the encoding it says, or cut off.
    """
    headers = dict(scope["headers"])
    body = await _whole(receive)
    expected = headers.get(b"content-length", b"")
    if expected.isdigit() and len(body) != int(expected):
        raise BadBody(f"the body was cut off: expected {int(expected)} bytes, got {len(body)}")
    encoding = headers.get(b"content-encoding", b"identity").lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"x-gzip"):
        name = encoding.decode("latin-1")
        raise BadBody(f"Content-Encoding '{name}' is not supported; use gzip or none")
    return _unpacked(body)


def json_text(body: bytes) -> str:
    """The text of a JSON body in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        UnicodeDecodeError: it is in none of them.
    """
    return body.decode(json.detect_encoding(body))


async def _whole(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadBody("the body was cut off: the client went away")
        part = message.get("body", b"")
        size += len(part)
        _check_size(size)
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpacked(body: bytes) -> bytes:
    unpack = zlib.decompressobj(wbits=31)
    try:
        found = unpack.decompress(body, LARGEST_BODY + 1)
    except zlib.error as error:
        raise BadBody(f"Invalid gzip bytes: {error}") from error
    _check_size(len(found))
    if not unpack.eof:
        raise BadBody("Invalid gzip bytes: the body was cut off")
    return found


def _check_size(size: int) -> None:
    if size > LARGEST_BODY:
        raise TooLarge(
            f"Document operation request size of at least {size} bytes exceeds maximum size of "
            f"{LARGEST_BODY} bytes."
        )
