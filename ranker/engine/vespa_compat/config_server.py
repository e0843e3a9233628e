"""The deployment side: as much of Vespa's config server as its clients use.

`vespa deploy` and pyvespa send a zip file to `prepareandactivate`; `vespa prepare` and `vespa
activate` do the same in three steps.  A package is checked and its model is tried before anything
changes.  There is one application, `default.default`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ranker.contract.vespa_names import LARGEST_MODEL
from ranker.engine.vespa_compat.application_server import ActiveApplication
from ranker.engine.vespa_compat.deployments import DeployError, Deployments
from ranker.errors import RankerError
from ranker.files import write_failure
from ranker.package.archive import LARGEST_REST

__all__ = ["PREFIX", "ConfigServer"]

logger = logging.getLogger(__name__)

PREFIX = "/application/v2/"
_TENANT = f"{PREFIX}tenant/default"
_APPLICATION = f"{_TENANT}/application/default"
_INSTANCE = f"{_APPLICATION}/environment/prod/region/default/instance/default"

LARGEST_UPLOAD = LARGEST_MODEL + LARGEST_REST
BLOCK = 1 << 20
"""Bytes of one write of an upload."""

STATUSES = {
    "BAD_REQUEST": 400,
    "INVALID_APPLICATION_PACKAGE": 400,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "ACTIVATION_CONFLICT": 409,
    "INTERNAL_SERVER_ERROR": 500,
}
"""The error codes that this side uses (`HttpErrorResponse.java`), and their HTTP statuses."""

_NO_ACTIONS: dict[str, list[Any]] = {"restart": [], "refeed": [], "reindex": []}


class ConfigServer:
    """The pages under `PREFIX`.

    Args:
        deployments: carries out the requests.
        port: of the application server, for clients that ask for it.
    """

    def __init__(self, deployments: Deployments, *, port: int) -> None:
        self._deployments = deployments
        self._port = port

    def asgi(self) -> ASGIApp:
        """Return the pages as an ASGI application."""
        session = f"{_TENANT}/session/{{number:int}}"
        routes = {
            f"{_TENANT}/prepareandactivate": {"POST": self._prepare_and_activate},
            f"{_TENANT}/session": {"POST": self._create},
            f"{session}/prepared": {"PUT": self._prepare},
            f"{session}/active": {"PUT": self._activate},
            _APPLICATION: {"GET": self._application},
            _INSTANCE: {"GET": self._application},
            f"{_INSTANCE}/serviceconverge": {"GET": self._converged},
        }
        return Starlette(
            routes=[Route(path, _page(verbs), methods=_METHODS) for path, verbs in routes.items()],
            exception_handlers={HTTPException: _not_found},
        )

    async def _prepare_and_activate(self, request: Request) -> dict[str, Any]:
        archive = await self._received(request)
        number, application = await self._deployments.deploy(archive)
        return {
            **_session(number, "prepared and activated"),
            **_log(application),
            "activated": True,
            "url": f"{_base(request)}{_INSTANCE}",
            "configChangeActions": _NO_ACTIONS,
        }

    async def _create(self, request: Request) -> dict[str, Any]:
        archive = await self._received(request)
        number = await self._deployments.create(archive)
        session = f"{_base(request)}{_TENANT}/session/{number}"
        return {
            **_session(number, "created"),
            "log": [],
            "prepared": f"{session}/prepared",
            "content": f"{session}/content/",
        }

    async def _prepare(self, request: Request) -> dict[str, Any]:
        number = request.path_params["number"]
        application = await self._deployments.prepare(number)
        return {
            **_session(number, "prepared"),
            **_log(application),
            "activate": f"{_base(request)}{_TENANT}/session/{number}/active",
            "configChangeActions": _NO_ACTIONS,
        }

    async def _activate(self, request: Request) -> dict[str, Any]:
        number = request.path_params["number"]
        await self._deployments.activate(number)
        return {**_session(number, "activated"), "url": f"{_base(request)}{_INSTANCE}"}

    async def _application(self, request: Request) -> dict[str, Any]:
        application = self._active()
        return {
            "generation": application.generation,
            "applicationPackageFileReference": "",
            "modelVersions": [],
        }

    async def _converged(self, request: Request) -> dict[str, Any]:
        """Return the generation that queries see now, and the one that was activated last."""
        application, wanted = self._active(), self._deployments.wanted
        host, url = request.url.hostname, f"{_base(request)}{request.url.path}"
        container = {
            "clusterName": "default",
            "host": host,
            "port": self._port,
            "type": "container",
            "url": f"{url}/{host}:{self._port}",
            "currentGeneration": application.generation,
        }
        return {
            "services": [container],
            "url": url,
            "currentGeneration": application.generation,
            "wantedGeneration": wanted,
            "converged": application.generation == wanted,
        }

    def _active(self) -> ActiveApplication:
        application = self._deployments.server.active
        if application is None:
            raise DeployError("NOT_FOUND", "no application is deployed; deploy one first")
        return application

    async def _received(self, request: Request) -> IO[bytes]:
        """Write the body to a file that is deleted when it is closed."""
        _check(request)
        file = self._deployments.upload()
        try:
            await _receive(request, file)
        except BaseException:
            with contextlib.suppress(OSError):  # on a full disk, closing fails once more
                file.close()
            raise
        return file


_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
_Verb = Callable[[Request], Awaitable[dict[str, Any]]]


def _page(verbs: Mapping[str, _Verb]) -> Callable[[Request], Awaitable[Response]]:
    """Return a page that answers in Vespa's JSON, for success and for errors."""

    async def page(request: Request) -> Response:
        verb = verbs.get("GET" if request.method == "HEAD" else request.method)
        try:
            if verb is None:
                raise DeployError("METHOD_NOT_ALLOWED", f"expected {', '.join(verbs)}")
            return JSONResponse(await verb(request))
        except DeployError as refusal:
            error = refusal
        except RankerError as failure:
            error = DeployError("INTERNAL_SERVER_ERROR", str(failure))
        except Exception as failure:
            logger.exception("a deployment failed")
            error = DeployError("INTERNAL_SERVER_ERROR", f"{type(failure).__name__}: {failure}")
        if request.method != "GET":
            logger.warning("%s %s: %s", request.method, request.url.path, error)
        return _error_response(error)

    return page


def _error_response(error: DeployError) -> Response:
    body = {"error-code": error.code, "message": error.message}
    return JSONResponse(body, status_code=STATUSES[error.code])


async def _not_found(request: Request, error: Exception) -> Response:
    return _error_response(
        DeployError("NOT_FOUND", f"nothing at {request.url.path}; the tenant is 'default'")
    )


def _check(request: Request) -> None:
    """Refuse anything that would be another deployment than the requested one."""
    for name in ("applicationName", "instance"):
        value = request.query_params.get(name, "default")
        if value != "default":
            raise DeployError(
                "BAD_REQUEST",
                f"{name} '{value}': the embedded engine has one application, 'default.default'",
            )
    if request.query_params.get("dryRun", "false") != "false" or "from" in request.query_params:
        raise DeployError("BAD_REQUEST", "dryRun and from are not supported by the embedded engine")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/zip":
        raise DeployError(
            "BAD_REQUEST", f"expected the Content-Type application/zip, got {kind or 'none'}"
        )


async def _receive(request: Request, file: IO[bytes]) -> None:
    """Write the body to a file."""
    header = request.headers.get("content-length", "")
    declared = int(header) if header.isdecimal() else None
    _check_size(declared or 0)
    size, waiting = 0, bytearray()
    try:
        async for part in request.stream():
            waiting += part
            size += len(part)
            _check_size(size)
            if len(waiting) >= BLOCK:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.write, bytes(waiting))
        file.seek(0)
    except ClientDisconnect as error:
        raise DeployError("BAD_REQUEST", "the body was cut off: the client went away") from error
    except OSError as error:
        message = f"the package cannot be written: {write_failure(error)}"
        raise DeployError("INTERNAL_SERVER_ERROR", message) from error
    if not size:
        raise DeployError(
            "BAD_REQUEST", "the body is empty; expected a zip file with an application package"
        )
    if declared is not None and size != declared:
        raise DeployError(
            "BAD_REQUEST", f"the body was cut off: expected {declared} bytes, got {size}"
        )


def _check_size(size: int) -> None:
    if size > LARGEST_UPLOAD:
        raise DeployError(
            "BAD_REQUEST", f"the package has {size} bytes, expected at most {LARGEST_UPLOAD}"
        )


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _session(number: int, done: str) -> dict[str, Any]:
    """Return what every answer about a session says."""
    return {
        "tenant": "default",
        "session-id": str(number),
        "message": f"Session {number} for tenant 'default' {done}.",
    }


def _log(application: ActiveApplication) -> dict[str, Any]:
    """Return the warnings of a deployment."""
    messages = [
        f"{name} is kept, but the embedded engine does not use it" for name in application.unused
    ]
    now = int(time.time() * 1000)
    return {"log": [{"time": now, "level": "WARNING", "message": text} for text in messages]}
