"""Deployment to the embedded engine, as a process that outlives this one."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ranker.client.endpoint import Endpoint, Http
from ranker.deploy.deployment import Deployment, Say, silent
from ranker.deploy.server import deploy_server, is_up
from ranker.errors import ArtifactError, EndpointError, UsageError
from ranker.package.application import Package

__all__ = ["deploy_embedded"]

POLL_S = 0.05


def deploy_embedded(
    app: Path,
    *,
    data: Path,
    port: int = 8080,
    host: str = "127.0.0.1",
    log: Path | None = None,
    wait_s: float = 120.0,
    on_progress: Say | None = None,
) -> Deployment:
    """Start `python -m ranker.engine` on a package and wait until it answers.

    If an engine with that data folder already answers at that port, the package is deployed to it
    while it serves.

    Args:
        app: the package folder.
        data: folder of its documents; created if it does not exist.
        port: TCP port.
        host: address to listen at; 127.0.0.1 keeps it to this machine.
        log: file that its log is appended to; `DATA.log` by default.
        wait_s: longest wait for its start: a large model or an index to rebuild takes a while.
        on_progress: called with each step.

    Raises:
        ArtifactError: `app` is not an application package, or the log cannot be written.
        EndpointError: the port is in use, or the engine exited during startup.
    """
    say = on_progress or silent
    Package.every(app, model=False)[0].require_own("the embedded engine")
    log = log or data.with_name(f"{data.name}.log")
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    if (pid := _engine_of(data)) is not None and _answers(url, pid):
        deployed = deploy_server(app, config_url=url, url=url, wait_s=wait_s, on_progress=say)
        return _deployment(url, pid, log, deployed.message, warnings=deployed.warnings)
    _require_free(host, port)
    # Absolute, so that no folder's name looks like an option.
    options = ["--data", str(data.absolute()), "--port", str(port), "--host", host, "--deploy"]
    process = _start([str(app.absolute()), *options], log)
    say(f"starting the embedded engine (process {process.pid}) at {url}")
    try:
        _wait(process, url, log, wait_s)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return _deployment(url, process.pid, log, "deployed", process=process)


def _deployment(url: str, pid: int, log: Path, result: str, **more: Any) -> Deployment:
    """Return the deployment of an engine; `more` are further fields of it."""
    message = (
        f"{result.rstrip('.')}; the embedded engine runs as process {pid}; stop it with: kill {pid}"
    )
    return Deployment(target="embedded", url=url, message=message, pid=pid, log=log, **more)


def _engine_of(data: Path) -> int | None:
    """Return the process id of the last engine of a data folder, or None."""
    try:
        return int((data / "lock").read_text())
    except (OSError, ValueError):
        return None


def _answers(url: str, pid: int) -> bool:
    """Return True if that very process answers."""
    try:
        with Http(Endpoint.of(url)) as http:
            return bool(http.get("/state/v1/version", timeout_s=5).json().get("pid") == pid)
    except (EndpointError, AttributeError):
        return False


def _require_free(host: str, port: int) -> None:
    if not 0 < port < 2**16:
        raise UsageError(f"expected a --port from 1 to 65535, got {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EndpointError(
                f"cannot listen at {host}:{port} ({error.strerror}); stop what runs there or "
                "choose another port"
            ) from error


def _start(arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "ranker.engine", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # so that Ctrl-C in this terminal does not end it
            )
    except OSError as error:
        raise ArtifactError(f"cannot write the log {log}: {error.strerror}") from error


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path, wait_s: float) -> None:
    end = time.monotonic() + wait_s
    with Http(Endpoint.of(url)) as http:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise EndpointError(
                    f"the embedded engine exited during startup (status {process.returncode}): "
                    f"{_last_line(log)} (log: {log})"
                )
            if is_up(http, "/state/v1/health"):
                return
            time.sleep(POLL_S)
    raise EndpointError(f"the embedded engine did not answer at {url} in {wait_s:g} s; log: {log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    written = [line.strip() for line in lines if line.strip()]
    return written[-1] if written else "no output"
