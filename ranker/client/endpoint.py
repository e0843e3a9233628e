"""A server's address, and small requests to it over HTTP/1.1.

For queries, checks and deployments: the standard library's client costs 24 ms to import, urllib3
90 ms, httpx 290 ms, and `ranker query` has half a second for everything.  Documents go another
way, see `feed`.
"""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from ranker.errors import EndpointError, ResponseError, UsageError

__all__ = ["Answer", "Endpoint", "Http", "Readable"]

CONNECT_S = 5.0
"""Seconds for a connection to come about; a machine that is there accepts in milliseconds."""

BLOCK = 1 << 18
"""Bytes of one write when a file is sent."""


class Readable(Protocol):
    """What can be sent as a body piece by piece, such as an open file."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server is, and the client certificate it asks for.

    Attributes:
        url: `http://HOST[:PORT][/PREFIX]` or `https://…`, without a slash at the end.
        cert: PEM file with the client certificate (Vespa Cloud), or None.
        key: PEM file with its private key.
    """

    url: str
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, url: str, *, cert: Path | None = None, key: Path | None = None) -> "Endpoint":
        """Check an address as a user gave it.

        Raises:
            UsageError: not a URL, one with a password, a certificate without its key, or a file
                that is not there.
        """
        if not _is_url(url):
            raise UsageError(f"expected a URL such as http://localhost:8080, got {url!r}")
        if "@" in urlsplit(url).netloc:
            raise UsageError(
                "a name and a password in the URL would not be sent; Vespa asks for a client "
                "certificate (--cert, --key), or put a proxy in front that adds them"
            )
        if (cert is None) != (key is None):
            given, missing = ("certificate", "key") if cert else ("key", "certificate")
            raise UsageError(f"a client {given} needs its {missing} too, got only the {given}")
        for path in (cert, key):
            if path is not None and not path.is_file():
                raise UsageError(f"expected a PEM file for the client certificate: no file {path}")
        return cls(url.rstrip("/"), cert, key)

    def tls(self) -> ssl.SSLContext:
        """The TLS context of this endpoint: the system's authorities, our certificate.

        Raises:
            UsageError: the certificate or the key cannot be used.
        """
        context = ssl.create_default_context()
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (ssl.SSLError, OSError) as error:
                raise UsageError(
                    f"cannot use the client certificate {self.cert} with the key {self.key}: "
                    f"{_reason(error)}"
                ) from error
        return context


@dataclass(frozen=True)
class Answer:
    """What a server said: the HTTP status and the body."""

    url: str
    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ResponseError: it is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ResponseError(
                f"expected JSON from {self.url}, got HTTP {self.status} with {self.excerpt()!r}; "
                "is that the address of a Vespa container or of the embedded engine?",
                status=self.status,
            ) from error

    def excerpt(self) -> str:
        """The beginning of the body as text, in one line."""
        return " ".join(self.body[:300].decode("utf-8", "replace").split())


class Http:
    """Kept-alive connections to one endpoint.  Thread safe.

    Args:
        endpoint: where.

    Raises:
        UsageError: the endpoint's certificate cannot be used.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        parts = urlsplit(endpoint.url)
        self.url = endpoint.url
        self._host, self._port, self._prefix = parts.hostname or "", parts.port, parts.path
        self._tls = endpoint.tls() if parts.scheme == "https" else None
        self._idle: list[http.client.HTTPConnection] = []

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().close()

    def get(self, path: str, *, timeout_s: float = 10.0) -> Answer:
        """GET a path.

        Raises:
            EndpointError: nothing answers, or not in time.
        """
        return self.request("GET", path, timeout_s=timeout_s)

    def post_json(self, path: str, value: Any, *, timeout_s: float) -> Answer:
        """POST a value as JSON.

        Raises:
            EndpointError: nothing answers, or not in time.
        """
        headers = {"Content-Type": "application/json"}
        body = json.dumps(value).encode()
        return self.request("POST", path, body=body, headers=headers, timeout_s=timeout_s)

    def request(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        body: bytes | Readable | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the whole answer, whatever its status.

        Args:
            method: the HTTP method.
            path: path and query, after the endpoint's own prefix.
            timeout_s: longest silence of the server, seconds.
            body: bytes, or something to read them from, which needs a Content-Length header.
            headers: more headers.

        Raises:
            EndpointError: nothing answers, or not in time.
        """
        target, extra = self._prefix + path, dict(headers or {})
        try:
            idle = self._reusable() if isinstance(body, bytes | None) else None
            if idle is not None:
                with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
                    return self._send(idle, method, target, body, extra, timeout_s)
                # The server closed the idle connection meanwhile: once more, on a new one.
            return self._send(self._connect(), method, target, body, extra, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            raise EndpointError(self._explain(error, timeout_s)) from error

    def _reusable(self) -> http.client.HTTPConnection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            connection = http.client.HTTPConnection(
                self._host, self._port, timeout=CONNECT_S, blocksize=BLOCK
            )
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT_S, blocksize=BLOCK, context=self._tls
            )
        connection.connect()
        return connection

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes | Readable | None,
        headers: dict[str, str],
        timeout_s: float,
    ) -> Answer:
        try:
            connection.sock.settimeout(timeout_s)
            # A server may refuse a body before it has read all of it; its answer is there then.
            with contextlib.suppress(BrokenPipeError):
                connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            answer = Answer(self.url + target, response.status, response.read())
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None:
            self._idle.append(connection)
        return answer

    def _explain(self, error: Exception, timeout_s: float) -> str:
        if isinstance(error, ConnectionRefusedError):
            return (
                f"nothing answers at {self.url} (connection refused); is the server running? "
                "The embedded engine starts with: ranker serve APP --data DIR"
            )
        if isinstance(error, socket.gaierror):
            return f"the host of {self.url} is not known ({_reason(error)}); check the URL"
        if isinstance(error, TimeoutError):
            return f"no answer from {self.url} within {timeout_s:g} s"
        if isinstance(error, ssl.SSLError):
            return f"TLS with {self.url} failed: {_reason(error)}"
        return f"{self.url} broke the connection ({_reason(error) or type(error).__name__})"


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if any(mark in url for mark in " \t\r\n?#") or port == 0:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _reason(error: Exception) -> str:
    """What an error of the operating system says, without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
