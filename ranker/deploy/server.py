"""Deployment to a running Vespa: the package goes to its config server in one request.

After POST prepareandactivate (https://docs.vespa.ai/en/reference/api/deploy-v2.html), it asks
serviceconverge until every service has the new generation, then the container's ApplicationStatus.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ranker.client.endpoint import Endpoint, Http
from ranker.deploy.deployment import Deployment, Say, silent
from ranker.errors import EndpointError, ResponseError
from ranker.package.application import Package
from ranker.package.archive import write_archive

__all__ = ["deploy_server", "is_up", "wait_for_config_server", "wait_for_container"]

PREPARE = "/application/v2/tenant/default/prepareandactivate"
PREPARE_S = 600.0
"""Vespa loads the model while it prepares; pyvespa's 120 s are too short for a large one."""

POLL_S = 0.5


def deploy_server(
    app: Path,
    *,
    config_url: str = "http://localhost:19071",
    url: str = "http://localhost:8080",
    wait_s: float = 300.0,
    poll_s: float = POLL_S,
    on_progress: Say | None = None,
) -> Deployment:
    """Deploy to a running Vespa.

    Args:
        app: the package folder.
        config_url: address of the config server.
        url: address at which the container will take documents and queries.
        wait_s: longest wait for the services after activation.
        poll_s: time between two requests while waiting.
        on_progress: called with each step, and with the progress of the upload.

    Raises:
        ArtifactError: `app` is not an application package, or was changed.
        EndpointError: nothing answers, or the services did not come up.
        ResponseError: Vespa refused the package; the message is Vespa's own.
    """
    say = on_progress or silent
    app = Package.every(app)[0].path
    with Http(Endpoint.of(config_url)) as config, Http(Endpoint.of(url)) as container:
        activated = _upload(config, app, say)
        warnings = _warnings(activated)
        for warning in warnings:
            say(warning)
        say(str(activated.get("message", "activated")))
        _wait_for_services(config, activated, end=time.monotonic() + wait_s, poll_s=poll_s, say=say)
        wait_for_container(container, wait_s=wait_s, poll_s=poll_s, say=say)
    return Deployment(
        target="server",
        url=url.rstrip("/"),
        message=str(activated.get("message", "")),
        warnings=warnings,
    )


def wait_for_config_server(config_url: str, *, wait_s: float, poll_s: float = POLL_S) -> None:
    """Wait until a config server that was just started takes packages.

    Raises:
        EndpointError: it did not come up in time.
    """
    with Http(Endpoint.of(config_url)) as http:
        up = _until(lambda: is_up(http, "/state/v1/health"), time.monotonic() + wait_s, poll_s)
    if not up:
        raise EndpointError(f"the config server at {config_url} did not come up in {wait_s:g} s")


def wait_for_container(container: Http, *, wait_s: float, poll_s: float = POLL_S, say: Say) -> None:
    """Wait until a container takes documents and queries.

    Raises:
        EndpointError: it did not come up in time.
    """
    say(f"waiting for the container at {container.url}")
    end = time.monotonic() + wait_s
    if not _until(lambda: is_up(container, "/ApplicationStatus"), end, poll_s):
        raise EndpointError(
            f"the application is activated, but the container at {container.url} does not answer "
            "/ApplicationStatus; check the URL, and vespa-logfmt on the server"
        )


def _upload(config: Http, app: Path, say: Say) -> dict[str, Any]:
    with tempfile.TemporaryFile() as file:
        write_archive(app, file)
        response = config.upload(
            PREPARE, _Archive(file, say), content_type="application/zip", timeout_s=PREPARE_S
        )
    result = response.json()
    if response.status == 200 and isinstance(result, dict):
        return result
    fields = result if isinstance(result, dict) else {}
    message = " ".join(str(fields.get("message") or response.excerpt()).split())
    name = fields.get("error-code") or f"HTTP {response.status}"
    logged = "; ".join(_logged(fields))
    raise ResponseError(
        f"the config server {config.url} refused the application ({name}): {message}"
        + (f" (it also logged: {logged})" if logged else ""),
        status=response.status,
    )


class _Archive:
    """A file that was just written, which reports how much of it has been sent."""

    def __init__(self, file: IO[bytes], say: Say) -> None:
        self.size = file.tell()
        file.seek(0)
        self._file, self._say = file, say
        self._sent, self._reported = 0, -1

    def read(self, size: int, /) -> bytes:
        block = self._file.read(size)
        self._sent += len(block)
        percent = 100 * self._sent // max(self.size, 1)
        if percent // 10 > self._reported:
            self._reported = percent // 10
            self._say(f"sent {self._sent / 1e6:.1f} of {self.size / 1e6:.1f} MB")
        return block


def _warnings(activated: Mapping[str, Any]) -> tuple[str, ...]:
    """Return Vespa's warnings, and what must be done before a change takes effect."""
    actions = activated.get("configChangeActions") or {}
    wanted = [
        f"{kind} needed: {'; '.join(map(str, action.get('messages', ()))) or action}"
        for kind in ("restart", "refeed", "reindex")
        for action in actions.get(kind, ())
    ]
    return (*_logged(activated), *wanted)


def _logged(response: Mapping[str, Any]) -> list[str]:
    return [
        f"{entry['level']}: {' '.join(str(entry.get('message', '')).split())}"
        for entry in response.get("log") or ()
        if entry.get("level") in ("WARNING", "SEVERE", "ERROR")
    ]


def _wait_for_services(
    config: Http, activated: Mapping[str, Any], *, end: float, poll_s: float, say: Say
) -> None:
    path = urlsplit(str(activated.get("url", ""))).path + "/serviceconverge"
    state: dict[str, Any] = {}

    def converged() -> bool:
        response = config.get(path)
        if response.status == 404:  # an older config server may not know the path
            return True
        if response.status != 200:
            return False
        state.update(response.json())
        generation, wanted = state.get("currentGeneration"), state.get("wantedGeneration")
        say(f"waiting for the services: generation {generation}, wanted {wanted}")
        return bool(state.get("converged"))

    if not _until(converged, end, poll_s):
        raise EndpointError(
            f"the application is activated, but its services did not switch to it in time "
            f"(generation {state.get('currentGeneration')}, wanted "
            f"{state.get('wantedGeneration')}); see vespa-logfmt on the server"
        )


def is_up(http: Http, path: str) -> bool:
    """Return True if a page of a server answers with status 200."""
    try:
        return http.get(path, timeout_s=5).status == 200
    except EndpointError:
        return False


def _until(holds: Callable[[], bool], end: float, poll_s: float) -> bool:
    """Ask until the condition holds or the time is up, at least once."""
    while not holds():
        if time.monotonic() >= end:
            return False
        time.sleep(poll_s)
    return True
