"""A real HTTP/1.1 server on a free port: a test scripts its replies, and it records requests.

with scripted(lambda request: Reply(200, {"ok": True})) as server:
    ... server.url ... server.requests
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True)
class Request:
    """A request that came in; `number` counts from 1."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def doc_id(self) -> str:
        """The user's id of the document that a document/v1 request is about."""
        return unquote(self.path.rsplit("/", 1)[1])


@dataclass(frozen=True)
class Reply:
    """A reply to send.

    With `cut`, only half of the body is sent before the connection breaks; `pause` are seconds
    between head and body.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    close: bool = False
    pause: float = 0.0


DROP = Reply(status=0)
"""The connection breaks before the first byte."""

Script = Callable[[Request], Reply]


class ScriptedServer:
    """See the module.  `busiest` is the largest number of requests at one time."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.busiest = 0
        self.connections = 0
        self._active = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                with outer._lock:
                    outer.connections += 1
                    self.connection_number = outer.connections
                super().setup()

            def handle_any(self) -> None:
                outer._answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                pass  # a client that goes away is part of the test

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def _answer(self, handler: Any) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        with self._lock:
            request = Request(
                len(self.requests) + 1,
                handler.command,
                handler.path,
                {name.lower(): value for name, value in handler.headers.items()},
                body,
                handler.connection_number,
            )
            self.requests.append(request)
            self._active += 1
            self.busiest = max(self.busiest, self._active)
        try:
            reply = self.script(request)
            time.sleep(reply.delay)
        finally:
            with self._lock:
                self._active -= 1
        if reply.status == 0:
            handler.close_connection = True
            return
        self._write(handler, reply)

    def _write(self, handler: Any, reply: Reply) -> None:
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        handler.send_response(reply.status)
        for name, value in {"Content-Length": str(len(raw)), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        time.sleep(reply.pause)
        handler.wfile.write(raw[: len(raw) // 2] if reply.cut else raw)
        handler.close_connection = reply.cut or reply.close

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[ScriptedServer]:
    """Run a server during the block."""
    server = ScriptedServer(script)
    server.start()
    try:
        yield server
    finally:
        server.stop()
