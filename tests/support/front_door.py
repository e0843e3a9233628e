"""Bad requests as data, and the answers of a server to them.

A `Case` is one HTTP request, byte for byte; `ask` sends it to a server; an `Answer` holds what is
compared: status, error codes and the shape of the JSON.  The cases are in `front_door_cases`,
deliberate differences in `test_front_door`.
"""

import contextlib
import http.client
import json
import socket
import urllib.parse
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "Case", "ask"]

TIMEOUT_S = 30.0
NO_CONTENT_NODE = 10
"""Vespa's code "Backend communication error"."""


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        id: its name.
        method, target: the request line's, the target still encoded.
        body: None for a request without a body or a length.
        headers: further headers.
        cut: bytes of the body that are announced and never sent.
    """

    id: str
    method: str
    target: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    cut: int = 0

    def wire(self, host: str) -> bytes:
        """Return the bytes of the request."""
        headers = [("Host", host), ("Connection", "close"), *self.headers]
        if self.body is not None:
            headers.append(("Content-Length", str(len(self.body) + self.cut)))
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (self.body or b"")


@dataclass(frozen=True)
class Answer:
    """The response to a case.

    Attributes:
        status: HTTP status; 0 where the connection was closed without an answer.
        codes: error codes of a search result.
        shape: keys and types of the JSON, as text; empty where it is not JSON.
        words: the messages, which are not compared.
    """

    status: int
    codes: tuple[int, ...]
    shape: str
    words: tuple[str, ...]

    @property
    def taken(self) -> bool:
        """Return True if the request was accepted, regardless of its result.

        The container then reports that it has no content node; an engine without documents gives
        an empty result, or reports a missing document.
        """
        if self.codes == (NO_CONTENT_NODE,) or (self.status == 200 and not self.codes):
            return True
        if self.status in (404, 412):
            return "pathId" in self.shape and not self.words or self.status == 412
        return self.status == 504 and "pathId" in self.shape


def ask(url: str, case: Case) -> Answer:
    """Return the answer of the server at `url` to a case."""
    host = urllib.parse.urlsplit(url).netloc
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), TIMEOUT_S) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(case.wire(host))
            if case.cut:
                connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection, method=case.method)
        try:
            response.begin()
            return _answer(response.status, response.read())
        except (http.client.HTTPException, ConnectionResetError):
            return Answer(0, (), "", ())


def _answer(status: int, body: bytes) -> Answer:
    try:
        value = json.loads(body)
    except ValueError:
        return Answer(status, (), "", ())
    errors = value["root"].get("errors", []) if "root" in value else []
    for error in errors:
        error.pop("stackTrace", None)  # of Java
    words = [error.get("message", "") for error in errors]
    words += [value["message"]] if "message" in value else []
    return Answer(status, tuple(error["code"] for error in errors), shape(value), tuple(words))


def shape(value: Any) -> str:
    """Return the keys and types of a JSON value; list items of the same shape count once."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{shape(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + "|".join(sorted({shape(item) for item in value})) + "]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return "number" if isinstance(value, int | float) else "text"
