"""A server's address, and requests to it: the only HTTP client of ranker.

libcurl does the work, through pycurl.  A document costs as little as with the fastest clients for
Python (`benchmarks/feeding.py`), and libcurl speaks HTTP/2 over TLS, sends a file piece by piece,
knows proxies, and reports what went wrong as a code.
"""

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from ranker.errors import EndpointError, ResponseError, UsageError

if TYPE_CHECKING:
    import pycurl

__all__ = ["Endpoint", "Http", "Response", "Upload"]

CONNECT_S = 5.0
"""Seconds for a connection to come about; a machine that is there accepts in milliseconds."""


NO_EXPECT = "Expect:"
"""Without it, libcurl asks for permission to send a large body and waits a second for it."""

JSON_HEADERS = ["Content-Type: application/json", NO_EXPECT]


class Upload(Protocol):
    """A body that is sent piece by piece, such as a large file.

    Attributes:
        size: bytes of the whole body.
    """

    size: int

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


@dataclass(frozen=True)
class Endpoint:
    """The address of a server, and the client certificate it asks for.

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
        """Check an address that a user gave.

        Raises:
            UsageError: not a URL, one with a password, a certificate without its key, or a file
                that is not there.
        """
        scheme, separator, rest = url.partition("://")
        url = f"{scheme.lower()}{separator}{rest}"
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

    @property
    def local(self) -> bool:
        """True where the server is this machine, so that no proxy is between."""
        host = urlsplit(self.url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")

    def require_certificate(self) -> None:
        """Refuse a client certificate that cannot be used, with the reason.

        Raises:
            UsageError: the certificate or the key is damaged, or they do not belong together.
        """
        if self.cert is None:
            return
        import ssl

        try:
            ssl.create_default_context().load_cert_chain(self.cert, self.key)
        except (ssl.SSLError, OSError) as error:
            raise UsageError(
                f"cannot use the client certificate {self.cert} with the key {self.key}: "
                f"{error.strerror or error}"
            ) from error


@dataclass(frozen=True, slots=True)
class Response:
    """The response of a server.

    Attributes:
        url: the address of the request.
        status: the HTTP status.
        body: the body, whole.
        retry_after_s: seconds that the server asks to wait before the next request.
    """

    url: str
    status: int
    body: bytes
    retry_after_s: int = 0

    def json(self) -> Any:
        """Parse the body as JSON.

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
        """Return the beginning of the body as text, in one line."""
        return " ".join(self.body[:300].decode("utf-8", "replace").split())


class Http:
    """Kept-alive connections to one endpoint.  Thread safe.

    A proxy is used where the environment names one (`http_proxy`, `https_proxy`, `all_proxy`,
    `no_proxy`, as libcurl reads them), but never for this machine itself.

    Args:
        endpoint: the server.

    Raises:
        UsageError: the endpoint's certificate cannot be used.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        endpoint.require_certificate()
        self.url = endpoint.url
        self._options = _options(endpoint)
        self._idle: list[pycurl.Curl] = []

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().close()

    def get(self, path: str, *, timeout_s: float = 10.0) -> Response:
        """GET a path.

        Args:
            path: path and query, after the endpoint's own prefix.
            timeout_s: longest wait for the whole response.

        Raises:
            EndpointError: the server does not answer, or not in time.
        """
        import pycurl

        handle = self._handle()
        handle.setopt(pycurl.HTTPGET, 1)
        handle.setopt(pycurl.HTTPHEADER, [])
        return self._perform(handle, path, timeout_s)

    def post(self, path: str, body: bytes, *, timeout_s: float) -> Response:
        """POST JSON that is already encoded; arguments and errors are those of `get`."""
        import pycurl

        handle = self._handle()
        handle.setopt(pycurl.POSTFIELDS, body)
        handle.setopt(pycurl.HTTPHEADER, JSON_HEADERS)
        return self._perform(handle, path, timeout_s)

    def post_json(self, path: str, value: object, *, timeout_s: float) -> Response:
        """POST a value as JSON; arguments and errors are those of `get`."""
        return self.post(path, json.dumps(value).encode(), timeout_s=timeout_s)

    def upload(self, path: str, body: Upload, *, content_type: str, timeout_s: float) -> Response:
        """POST a large body piece by piece, over a connection of its own.

        Args:
            path: path and query, after the endpoint's own prefix.
            body: the bytes.
            content_type: their media type.
            timeout_s: longest silence, a whole number of seconds; the upload may take longer.

        Raises:
            EndpointError: the server does not answer, or not in time.
        """
        import pycurl

        handle = pycurl.Curl()
        for option, value in {
            **self._options,
            pycurl.POST: 1,
            pycurl.POSTFIELDSIZE_LARGE: body.size,
            pycurl.READFUNCTION: body.read,
            pycurl.HTTPHEADER: [f"Content-Type: {content_type}", NO_EXPECT],
            pycurl.LOW_SPEED_LIMIT: 1,
            pycurl.LOW_SPEED_TIME: round(timeout_s),
        }.items():
            handle.setopt(option, value)
        return self._perform(handle, path, timeout_s, whole=False)

    def _handle(self) -> "pycurl.Curl":
        """Return an idle handle, which keeps its connection open, or a new one."""
        import pycurl

        try:
            return self._idle.pop()
        except IndexError:
            handle = pycurl.Curl()
        for option, value in self._options.items():
            handle.setopt(option, value)
        return handle

    def _perform(
        self, handle: "pycurl.Curl", path: str, timeout_s: float, *, whole: bool = True
    ) -> Response:
        """Send a prepared request and read the whole response, regardless of its status."""
        import pycurl

        url = self.url + path
        body: list[bytes] = []
        try:
            handle.setopt(pycurl.URL, url)
            handle.setopt(pycurl.WRITEFUNCTION, body.append)
            handle.setopt(pycurl.TIMEOUT_MS, int(1000 * timeout_s) if whole else 0)
            # Python notices Ctrl-C only when libcurl calls it, which it does once a second or more.
            in_main = threading.current_thread() is threading.main_thread()
            handle.setopt(pycurl.NOPROGRESS, not in_main)
            handle.perform()
            status = handle.getinfo(pycurl.RESPONSE_CODE)
            retry_after_s = handle.getinfo(pycurl.RETRY_AFTER) if status >= 400 else 0
        except pycurl.error as error:
            failure = _failure(handle, int(error.args[0]), self.url, timeout_s)
            handle.close()
            raise failure from error
        except BaseException:
            handle.close()
            raise
        if whole:
            self._idle.append(handle)
        else:
            handle.close()
        return Response(url, status, b"".join(body), retry_after_s)


def _options(endpoint: Endpoint) -> dict[int, Any]:
    """Return the options of libcurl that every request to an endpoint has."""
    import pycurl

    options: dict[int, Any] = {
        pycurl.NOSIGNAL: 1,  # signals and threads do not mix
        pycurl.XFERINFOFUNCTION: _notice_signals,
        pycurl.CONNECTTIMEOUT_MS: int(1000 * CONNECT_S),
    }
    if endpoint.local:
        options[pycurl.PROXY] = ""
    if endpoint.url.startswith("https:"):
        import ssl

        # The wheels of pycurl bring a TLS library that does not know where this system keeps them.
        authorities = ssl.get_default_verify_paths()
        files = (
            (pycurl.CAINFO, authorities.cafile),
            (pycurl.CAPATH, authorities.capath),
            (pycurl.SSLCERT, endpoint.cert),
            (pycurl.SSLKEY, endpoint.key),
        )
        options |= {option: str(path) for option, path in files if path is not None}
    return options


def _notice_signals(*progress: int) -> None:
    """Let Python handle the signals that came while libcurl waited."""


def _failure(handle: "pycurl.Curl", code: int, url: str, timeout_s: float) -> EndpointError:
    """Return the error of a request that got no response, by libcurl's code."""
    import pycurl

    message, errno = handle.errstr(), handle.getinfo(pycurl.OS_ERRNO)
    if handle.getinfo(pycurl.USED_PROXY) or code == pycurl.E_COULDNT_RESOLVE_PROXY:
        return EndpointError(
            f"{url} cannot be reached through the proxy of the environment ({message}); check "
            "http_proxy and https_proxy, or name the host in no_proxy",
            cause=message,
        )
    if code == pycurl.E_COULDNT_CONNECT:
        cause = os.strerror(errno).lower() if errno else message
        return EndpointError(
            f"nothing answers at {url} ({cause}); is the server running? "
            "The embedded engine starts with: ranker serve APP --data DIR",
            cause=cause,
        )
    if code == pycurl.E_COULDNT_RESOLVE_HOST:
        return EndpointError(
            f"the host of {url} is not known ({message}); check the URL", cause=message
        )
    if code == pycurl.E_OPERATION_TIMEDOUT:
        cause = f"no answer within {timeout_s:g} s"
        return EndpointError(f"no answer from {url} within {timeout_s:g} s", cause=cause)
    if code in (
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_PEER_FAILED_VERIFICATION,
    ):
        return EndpointError(f"TLS with {url} failed: {message}", cause=f"TLS failed: {message}")
    return EndpointError(f"{url} broke the connection ({message})", cause=message)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if any(mark in url for mark in " \t\r\n?#") or port == 0:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
