"""The engine as a process: opens a package and a data folder, and serves until it is stopped."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.engine.vespa_compat.admission import admit
from ranker.errors import ArtifactError, EndpointError, UsageError, require
from ranker.package.application import Package

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["serve"]

logger = logging.getLogger(__name__)

GRACE_S = 10.0
"""Seconds to finish the requests in progress when the engine is stopped."""

SWITCH_S = 0.0005
"""Seconds for which a thread may hold Python's lock while another one waits.  The default of 5 ms
is as long as a whole query, and the event loop would lose it to the index again and again."""

CLOSE_S = 0.2
"""Seconds for the server to close its connections."""

_STOP = (signal.SIGTERM, signal.SIGINT)


def serve(
    app: Path | None,
    *,
    data: Path,
    port: int = 8080,
    host: str = "127.0.0.1",
    config_port: int | None = None,
    deploy: bool = False,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Serve an application until SIGTERM or SIGINT.

    From then on the process ignores both signals, also after the return, so that a second one
    neither interrupts the closing of the data folder nor changes the exit status.

    Args:
        app: the package's folder.  Without one, or with the same one as at the last start, the
            engine serves the last package deployed into the data folder, if there is one.
        data: folder for documents and deployed packages, made if it is missing.
        port: TCP port, for HTTP/1.1 and HTTP/2 with prior knowledge.
        host: address to listen on.
        config_port: a second port with the same pages; without a given port, Vespa's clients
            deploy to 19071.
        deploy: True to serve `app` even if another package was deployed later.
        on_start: called when everything but the ports is open.

    Raises:
        UsageError: a port is not a port number, or both are the same.
        EndpointError: a port is in use, or the address is not one of this machine.
        ArtifactError: the package or the data folder cannot be used, or another engine uses it.
        SpecMismatch: model and package have different token contracts.
    """
    ports = [port] if config_port is None else [port, config_port]
    if len(set(ports)) < len(ports):
        raise UsageError(f"expected two different ports, got {port} twice")
    for number in ports:
        check_port(host, number)
    sys.setswitchinterval(SWITCH_S)
    package = None if app is None else admit(app)
    running = _running(package, data, port, config_port, deploy)
    with _locked(data), running as asgi:
        asyncio.run(_serve(asgi, host, ports, on_start))


def check_port(host: str, port: int) -> None:
    """Refuse a port on which the engine cannot listen.

    Raises:
        UsageError: it is not a port number.
        EndpointError: it is in use, or may not be used.
    """
    if not 0 < port < 2**16:
        raise UsageError(f"expected a --port from 1 to 65535, got {port}")
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise EndpointError(
            f"cannot listen on {host}:{port}: {error}; stop what listens there, or choose "
            "another --port"
        ) from error


@contextlib.contextmanager
def _running(
    package: Package | None, data: Path, port: int, config_port: int | None, deploy: bool
) -> Iterator["ASGIApp"]:
    """Yield the ASGI application over an open data folder, which is closed at the end."""
    servers = require("ranker.engine.vespa_compat.application_server", extra="engine")
    deploying = require("ranker.engine.vespa_compat.deployments", extra="engine")
    config = require("ranker.engine.vespa_compat.config_server", extra="engine")
    empty = require("ranker.engine.http.empty", extra="engine").empty(config_port)
    server = servers.ApplicationServer(data, empty)
    try:
        deployments = deploying.Deployments(server, data / "applications")
        deployments.start(package, deploy=deploy)
        pages = config.ConfigServer(deployments, port=port).asgi()

        async def asgi(scope: "Scope", receive: "Receive", send: "Send") -> None:
            deploys = scope["type"] == "http" and scope["path"].startswith(config.PREFIX)
            await (pages if deploys else server)(scope, receive, send)

        yield asgi
    finally:
        server.close()


_HEADERS = [(b"content-type", b"application/json")]


async def _serve(
    asgi: "ASGIApp", host: str, ports: Sequence[int], on_start: Callable[[], None]
) -> None:
    counted = _Counted(asgi)
    servers = [_server(counted, host, port) for port in ports]
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # Not `loop.add_signal_handler`: closing the loop would restore the default handlers, and a
    # second signal would then kill the process before the data folder is closed.
    for number in _STOP:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    on_start()
    serving = [loop.create_task(server.serve()) for server in servers]
    logger.info("serving at %s", ", ".join(f"http://{host}:{port}" for port in ports))
    await asyncio.wait(
        [*serving, loop.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED
    )
    for number in _STOP:
        signal.signal(number, signal.SIG_IGN)
    for task, port in zip(serving, ports, strict=True):
        if task.done() and (error := task.exception()) is not None:
            raise EndpointError(f"cannot serve at {host}:{port}: {error}") from error
    await counted.stop()
    for server in servers:
        server.stop()
    # A server waits for clients to close their connections, which an idle client never does.
    await asyncio.wait(serving, timeout=CLOSE_S)
    loop.set_exception_handler(
        lambda *_: None
    )  # the server's own futures complain when it is cancelled
    for task in serving:
        task.cancel()
    await asyncio.wait(serving)
    logger.info("stopped")


def _server(asgi: "ASGIApp", host: str, port: int) -> Any:  # granian has no types
    granian = require("granian.server.embed", extra="engine")
    constants = require("granian.constants", extra="engine")
    return granian.Server(
        asgi,
        address=host,
        port=port,
        interface=constants.Interfaces.ASGINL,
        http=constants.HTTPModes.auto,
        websockets=False,
        log_enabled=False,
        # Granian keeps as many connections as its backlog; with the default of 128, one more would
        # wait half a minute for an idle one to close.
        backlog=2048,
    )


class _Counted:
    """Counts the requests in progress of an ASGI application, so that it can be stopped."""

    def __init__(self, asgi: "ASGIApp") -> None:
        self._asgi = asgi
        self._active = 0
        self._stopping = False

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if self._stopping:  # on a connection that is still open; the client may try again
            await send({"type": "http.response.start", "status": 503, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b'{"message":"stopping"}'})
            return
        self._active += 1
        try:
            await self._asgi(scope, receive, send)
        finally:
            self._active -= 1

    async def stop(self) -> None:
        """Refuse new requests and wait for those in progress, but no longer than `GRACE_S`."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        end = loop.time() + GRACE_S
        while self._active and loop.time() < end:
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold an exclusive lock on the data folder; the OS releases it when the process exits.

    Raises:
        ArtifactError: another engine uses the folder, or it holds other files.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        foreign = any(data.iterdir()) and not (data / "lock").exists()
    except OSError as error:
        raise ArtifactError(f"cannot use {data} as data folder: {error}") from error
    if foreign:
        raise ArtifactError(
            f"expected an engine's data folder or a new one, got {data}, which holds other files"
        )
    with (data / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise ArtifactError(
                f"the data folder {data} is in use by another engine (process "
                f"{lock.read().strip() or '?'}); stop it, or name another --data folder"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
