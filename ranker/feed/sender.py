"""One operation to the server, and what came of it.

httpr (Rust, pyvespa's own transport) in threads: it needs 60 to 80 microseconds of CPU a document
where http.client needs 115, urllib3 240, httpx 1160, and speaks HTTP/2 over TLS where the server
offers it (`benchmarks/feeding.py`).
"""

import contextlib
import email.utils
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpr

from ranker.client.endpoint import Endpoint
from ranker.errors import UsageError

__all__ = ["Outcome", "Sender"]

RETRYABLE = (429, 502, 503, 504)
"""Too many requests, nothing behind the gateway, not there yet, not in time.  Never 400 and 500,
which would come again, and never 507: the disk or the memory of the server is full."""

HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request.

    Attributes:
        status: the HTTP status; None where no whole answer came.
        message: the server's message, or what happened to the connection.
        retry_after: seconds that the server asks to wait.
    """

    status: int | None
    message: str = ""
    retry_after: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the server acknowledged the operation."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in RETRYABLE

    @property
    def overload(self) -> bool:
        """Whether the server asks for fewer requests at a time."""
        return self.status in (429, 503)


class Sender:
    """Sends operations to `/document/v1`.  Thread safe.

    Args:
        endpoint: where.
        timeout_s: longest silence of the server, seconds.

    Raises:
        UsageError: the client certificate cannot be used.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float) -> None:
        self._base = f"{endpoint.url}/document/v1/"
        self._http = _client(endpoint, timeout_s)

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def send(self, doc_id: str, body: bytes) -> Outcome:
        """Put one document; never raises for what a server or a network does.

        Args:
            doc_id: as `id:NAMESPACE:SCHEMA::ID`.
            body: with the fields.
        """
        try:
            url = self._base + _path(doc_id)
            response = self._http.post(url, content=body, headers=HEADERS)
            status = int(response.status_code)
            if 200 <= status < 300:
                return Outcome(status)
            retry_after = response.headers.get("retry-after") or ""
            return Outcome(status, _message(response.content), _seconds(retry_after))
        except httpr.RequestError as error:
            return Outcome(None, f"no answer: {type(error).__name__}: {_cause(error)}")


def _path(doc_id: str) -> str:
    """The path of a document id, which may have a number or a group before its last part."""
    _, namespace, kind, selected, user = doc_id.split(":", 4)
    key, _, value = selected.partition("=")
    where = f"{_SELECTED[key]}/{quote(value, safe='')}" if key else "docid"
    return f"{quote(namespace, safe='')}/{kind}/{where}/{quote(user, safe='')}"


_SELECTED = {"n": "number", "g": "group"}


def _client(endpoint: Endpoint, timeout_s: float) -> Any:
    identity = b""
    if endpoint.cert is not None and endpoint.key is not None:
        endpoint.tls()  # whose message says what is wrong with the files
        identity = endpoint.cert.read_bytes() + b"\n" + endpoint.key.read_bytes()
    try:
        with _without_proxy(urlsplit(endpoint.url).hostname or ""):
            return httpr.Client(
                timeout=timeout_s,
                follow_redirects=False,
                cookie_store=False,
                client_pem_data=identity or None,
                ca_cert_file=_authorities(),
            )
    except httpr.RequestError as error:
        raise UsageError(
            f"cannot use the client certificate {endpoint.cert} with the key {endpoint.key}"
        ) from error


@contextlib.contextmanager
def _without_proxy(host: str) -> Iterator[None]:
    """Queries and checks go straight to the host, so documents do, too; httpr reads this once."""
    before = os.environ.get("NO_PROXY")
    os.environ["NO_PROXY"] = ",".join(filter(None, [before, host]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["NO_PROXY"]
        else:
            os.environ["NO_PROXY"] = before


def _authorities() -> str | None:
    """The file that Python's TLS takes authorities from, too, where the user named one."""
    named = os.environ.get("SSL_CERT_FILE")
    return named if named and os.path.isfile(named) else None


def _message(body: bytes) -> str:
    """Vespa's message; the beginning of any other body."""
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    message = value.get("message") if isinstance(value, dict) else None
    return " ".join(str(message or text).split())[:1000]


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After header, which holds a number or a date; 0 for anything else."""
    try:
        seconds = float(retry_after)
        return max(0.0, seconds) if math.isfinite(seconds) else 0.0
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _cause(error: Exception) -> str:
    """The library's words, without the URL that all its messages end with."""
    return str(error).partition(" for url ")[0]
