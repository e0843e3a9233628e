"""The deployment side: Vespa's config server, as far as its clients use it.

`vespa deploy` and pyvespa send a zip file to `prepareandactivate`; `vespa prepare` and `vespa
activate` do the same in three steps.  A package is checked and its model is tried before anything
changes.  There is one application, `default.default`.
"""

import asyncio
import contextlib
import logging
import re
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
from ranker.engine.vespa_compat.deployments import DeployFault, Deployments
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
        deployments: does what is asked.
        port: of the container, for clients that ask where it is.
    """

    def __init__(self, deployments: Deployments, *, port: int) -> None:
        self._deployments = deployments
        self._port = port

    def asgi(self) -> ASGIApp:
        """The pages under `PREFIX`."""
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
            exception_handlers={HTTPException: _nothing},
        )

    async def _prepare_and_activate(self, request: Request) -> dict[str, Any]:
        archive = await self._received(request)
        number, served = await self._deployments.deploy(archive)
        return {
            **_log(served),
            "message": f"Session {number} for tenant 'default' prepared and activated.",
            "session-id": str(number),
            "activated": True,
            "tenant": "default",
            "url": f"{_base(request)}{_INSTANCE}",
            "configChangeActions": _NO_ACTIONS,
        }

    async def _create(self, request: Request) -> dict[str, Any]:
        archive = await self._received(request)
        number = await self._deployments.create(archive)
        session = f"{_base(request)}{_TENANT}/session/{number}"
        return {
            "log": [],
            "tenant": "default",
            "session-id": str(number),
            "prepared": f"{session}/prepared",
            "content": f"{session}/content/",
            "message": f"Session {number} for tenant 'default' created.",
        }

    async def _prepare(self, request: Request) -> dict[str, Any]:
        number = request.path_params["number"]
        served = await self._deployments.prepare(number)
        return {
            **_log(served),
            "tenant": "default",
            "session-id": str(number),
            "activate": f"{_base(request)}{_TENANT}/session/{number}/active",
            "message": f"Session {number} for tenant 'default' prepared.",
            "configChangeActions": _NO_ACTIONS,
        }

    async def _activate(self, request: Request) -> dict[str, Any]:
        number = request.path_params["number"]
        await self._deployments.activate(number)
        return {
            "tenant": "default",
            "session-id": str(number),
            "message": f"Session {number} for tenant 'default' activated.",
            "url": f"{_base(request)}{_INSTANCE}",
        }

    async def _application(self, request: Request) -> dict[str, Any]:
        served = self._require_served()
        return {
            "generation": served.generation,
            "applicationPackageFileReference": "",
            "modelVersions": [],
        }

    async def _converged(self, request: Request) -> dict[str, Any]:
        """The generation that queries see now, and the one that was activated last."""
        served, wanted = self._require_served(), self._deployments.wanted
        host, url = request.url.hostname, f"{_base(request)}{request.url.path}"
        container = {
            "clusterName": "default",
            "host": host,
            "port": self._port,
            "type": "container",
            "url": f"{url}/{host}:{self._port}",
            "currentGeneration": served.generation,
        }
        return {
            "services": [container],
            "url": url,
            "currentGeneration": served.generation,
            "wantedGeneration": wanted,
            "converged": served.generation == wanted,
        }

    def _require_served(self) -> ActiveApplication:
        served = self._deployments.container.served
        if served is None:
            raise DeployFault("NOT_FOUND", "Application 'default.default' not found: deploy one")
        return served

    async def _received(self, request: Request) -> IO[bytes]:
        """The body as a file, gone when it is closed."""
        _check_parameters(request)
        _check_content(request)
        file = self._deployments.upload()
        try:
            await _receive(request, file)
        except BaseException:
            with contextlib.suppress(OSError):  # on a full disk it fails once more
                file.close()
            raise
        return file


_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
_Verb = Callable[[Request], Awaitable[dict[str, Any]]]


def _page(verbs: Mapping[str, _Verb]) -> Callable[[Request], Awaitable[Response]]:
    """A page with Vespa's answers, good and bad."""

    async def page(request: Request) -> Response:
        verb = verbs.get("GET" if request.method == "HEAD" else request.method)
        try:
            if verb is None:
                raise DeployFault(
                    "METHOD_NOT_ALLOWED", f"Method '{request.method}' is not supported"
                )
            return JSONResponse(await verb(request))
        except DeployFault as error:
            fault = error
        except RankerError as error:
            fault = DeployFault("INTERNAL_SERVER_ERROR", str(error))
        except Exception as error:
            logger.exception("a deployment failed")
            fault = DeployFault("INTERNAL_SERVER_ERROR", f"{type(error).__name__}: {error}")
        if request.method != "GET":
            logger.warning("%s %s: %s", request.method, request.url.path, fault.message)
        return _refused(fault)

    return page


def _refused(fault: DeployFault) -> Response:
    body = {"error-code": fault.code, "message": fault.message}
    return JSONResponse(body, status_code=STATUSES[fault.code])


async def _nothing(request: Request, error: Exception) -> Response:
    tenant = re.match(rf"{PREFIX}tenant/([^/]+)", request.url.path)
    if tenant and tenant[1] != "default":
        return _refused(DeployFault("NOT_FOUND", f"Tenant '{tenant[1]}' was not found."))
    return _refused(DeployFault("NOT_FOUND", f"Nothing at {request.url.path}"))


def _check_parameters(request: Request) -> None:
    """Refuse what would be another deployment than the one that is asked for."""
    for name in ("applicationName", "instance"):
        value = request.query_params.get(name, "default")
        if value != "default":
            raise DeployFault(
                "BAD_REQUEST",
                f"{name} '{value}': the embedded engine has one application, 'default.default'",
            )
    if request.query_params.get("dryRun", "false") != "false" or "from" in request.query_params:
        raise DeployFault("BAD_REQUEST", "dryRun and from are not supported by the embedded engine")


def _check_content(request: Request) -> None:
    """Vespa's words (`SessionCreateHandler`); of its two forms, the one that its clients send."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind:
        raise DeployFault("BAD_REQUEST", "Request contains no Content-Type header")
    if kind != "application/zip":
        raise DeployFault(
            "BAD_REQUEST",
            f"Request contains invalid Content-Type header ({kind}), only '[application/zip]' are "
            "supported",
        )


async def _receive(request: Request, file: IO[bytes]) -> None:
    """Write a body to a file."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > LARGEST_UPLOAD:
        raise _too_large(int(declared))
    size, waiting = 0, bytearray()
    try:
        async for part in request.stream():
            waiting += part
            size += len(part)
            if size > LARGEST_UPLOAD:
                raise _too_large(size)
            if len(waiting) >= BLOCK:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.write, bytes(waiting))
        file.seek(0)
    except ClientDisconnect as error:
        raise DeployFault("BAD_REQUEST", "the body was cut off: the client went away") from error
    except OSError as error:
        message = f"the package cannot be written: {write_failure(error)}"
        raise DeployFault("INTERNAL_SERVER_ERROR", message) from error
    if not size:
        raise DeployFault("BAD_REQUEST", "Request contains no data")
    if declared.isdecimal() and size != int(declared):
        raise DeployFault(
            "BAD_REQUEST", f"the body was cut off: expected {declared} bytes, got {size}"
        )


def _too_large(size: int) -> DeployFault:
    return DeployFault(
        "BAD_REQUEST",
        f"Total size of archive exceeds size limit: {size} bytes, at most {LARGEST_UPLOAD}",
    )


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _log(served: ActiveApplication) -> dict[str, Any]:
    """What a deployment is told beside its result."""
    messages = [
        f"{name} means nothing to the embedded engine; it is kept and not used"
        for name in served.unused
    ]
    now = int(time.time() * 1000)
    return {"log": [{"time": now, "level": "WARNING", "message": text} for text in messages]}
