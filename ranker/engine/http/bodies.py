"""Bodies of requests: whole, unpacked and within limits, or refused."""

import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BodyError", "json_decoder", "json_text", "read_body"]

LARGEST_BODY = 100 * 2**20
"""Bytes of a request, as in Vespa's container."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass
class BodyError(Exception):
    """A body that cannot be read: 400 for a broken one, 413 for one above the limit."""

    status: int
    message: str


async def read_body(scope: Mapping[str, Any], receive: Receive) -> bytes:
    """Return the body of an ASGI request, unpacked.

    Raises:
        BodyError: the body is cut off, too large, or not in the encoding that its header states.
    """
    headers = dict(scope["headers"])
    parts: list[bytes] = []
    more, size = True, 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyError(400, "the body was cut off: the client disconnected")
        parts.append(message.get("body", b""))
        more, size = bool(message.get("more_body")), size + len(parts[-1])
        _check_size(size)
    expected = headers.get(b"content-length", b"")
    if expected.isdigit() and size != int(expected):
        raise BodyError(400, f"the body was cut off: expected {int(expected)} bytes, got {size}")
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    encoding = headers.get(b"content-encoding", b"identity").lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"x-gzip"):
        name = encoding.decode("latin-1")
        raise BodyError(400, f"Content-Encoding '{name}' is not supported; use gzip or none")
    return _unpacked(body)


def json_text(body: bytes) -> str:
    """Return the text of a JSON body in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        UnicodeDecodeError: the body is in none of them.
    """
    return body.decode(json.detect_encoding(body))


def json_decoder(*, strict: bool) -> json.JSONDecoder:
    """Return a decoder without Python's additions to JSON, NaN and Infinity.

    Args:
        strict: True to refuse control characters in strings.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a JSON value")

    return json.JSONDecoder(strict=strict, parse_constant=refuse)


def _unpacked(body: bytes) -> bytes:
    unpack = zlib.decompressobj(wbits=31)  # with gzip's header and checksum
    try:
        # One byte above the limit shows that a body is too large, however large it is.
        unpacked = unpack.decompress(body, LARGEST_BODY + 1)
    except zlib.error as error:
        raise BodyError(400, f"invalid gzip body: {error}") from error
    _check_size(len(unpacked))
    if not unpack.eof:
        raise BodyError(400, "invalid gzip body: it was cut off")
    return unpacked


def _check_size(size: int) -> None:
    if size > LARGEST_BODY:
        raise BodyError(413, f"expected a body of at most {LARGEST_BODY} bytes, got {size} or more")
