"""The engine's pages about itself, which Vespa's clients and monitors ask for.

To add a page, write a function and a row of `PAGES`.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from ranker import __version__
from ranker.engine.http.render import json_response
from ranker.package.application import Package

__all__ = ["PAGES", "Page", "Subject", "respond"]

VESPA_VERSION = "8.700.24"
"""The version of Vespa whose API this is; the `vespa` CLI reads it."""

_START = time.time()

_DOCUMENT_HANDLER = "com.yahoo.document.restapi.resource.DocumentV1ApiHandler"
"""The handler by which the `vespa` CLI recognises a document API."""


@dataclass(frozen=True)
class Subject:
    """What the pages report on.

    Attributes:
        package: the application; None before the first deployment.
        generation: which deployment it is.
        counts: returns the counters since the start.
    """

    package: Package | None = None
    generation: int = 1
    counts: Callable[[], Mapping[str, float]] = field(default=dict)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        body: makes the JSON of the page, or another response.
        needs: what must be there; without it, the page is a 503.  `readiness` is an application,
            or a port at which one can be deployed.
        only_get: the body of the 405 for other methods than GET and HEAD; None to accept them, as
            Vespa does for most pages.
    """

    body: Callable[[Subject, Request], dict[str, Any] | Response]
    needs: Literal["nothing", "readiness", "application"] = "nothing"
    only_get: dict[str, Any] | str | None = None


def respond(subject: Subject, request: Request) -> ASGIApp:
    """Return the response of the page at the request's path, a 404 where there is none."""
    path, code = request.scope["path"], 200
    page = PAGES.get(path)
    if page is None:
        pages = ", ".join(PAGES)
        return PlainTextResponse(
            f"no page at {path}; the embedded engine of ranker {__version__} answers at /search/, "
            f"/document/v1/ and {pages}\n",
            404,
        )
    body: dict[str, Any] | str | Response
    if page.only_get is not None and request.method not in ("GET", "HEAD"):
        body, code = page.only_get, 405
    else:
        body = page.body(subject, request)
    if isinstance(body, Response):
        return body
    return PlainTextResponse(body, code) if isinstance(body, str) else json_response(body, code)


def _overview(subject: Subject, request: Request) -> dict[str, Any]:
    meta = {"name": "ranker", "user": "ranker", "path": "", "generation": subject.generation}
    handler = {
        "id": _DOCUMENT_HANDLER,
        "class": _DOCUMENT_HANDLER,
        "bundle": "ranker",
        "serverBindings": ["http://*/document/v1/*", "http://*/document/v1/*/"],
    }
    return {
        "application": {
            "vespa": {"version": VESPA_VERSION},
            "meta": meta,
            "user": {"version": __version__},
        },
        "abstractComponents": [],
        "handlers": [handler] if subject.package else [],
    }


def _status(subject: Subject, request: Request) -> Response:
    return Response("<title>OK</title>\n", media_type="text/html")


def _resources(subject: Subject, request: Request) -> dict[str, Any]:
    base = str(request.base_url).rstrip("/")
    names = ("metrics", "health", "version")
    return {"resources": [{"url": f"{base}/state/v1/{name}"} for name in names]}


def _health(subject: Subject, request: Request) -> dict[str, Any]:
    now = time.time()
    return {
        "time": int(now * 1000),
        "status": {"code": "up" if subject.package else "initializing"},
        "metrics": {"snapshot": {"from": _START, "to": now}, "values": []},
    }


def _metrics(subject: Subject, request: Request) -> dict[str, Any]:
    body = _health(subject, request)
    body["metrics"]["values"] = [
        {"name": f"ranker.{name}", "values": {"count": value, "last": value}}
        for name, value in subject.counts().items()
    ]
    return body


def _version(subject: Subject, request: Request) -> dict[str, Any]:
    return {"version": VESPA_VERSION, "ranker": __version__, "pid": os.getpid()}


def _metrics_v2(subject: Subject, request: Request) -> dict[str, Any]:
    values = {f"ranker.{name}.last": value for name, value in subject.counts().items()}
    service = {
        "name": "vespa.container",
        "timestamp": int(time.time()),
        "status": {"code": "up", "description": "the embedded engine of ranker"},
        "metrics": [{"values": values, "dimensions": {}}],
    }
    return {"nodes": [{"hostname": "localhost", "role": "embedded", "services": [service]}]}


def _manifest(subject: Subject, request: Request) -> dict[str, Any]:
    assert subject.package is not None
    return subject.package.manifest.to_dict()


def _tokenizer(subject: Subject, request: Request) -> Response:
    assert subject.package is not None
    return Response(subject.package.tokenizer_json, media_type="application/json")


_ONLY_GET = "expected GET at this path; queries are sent to /search/"

PAGES = {
    "/": Page(_overview, "readiness", {"error": _ONLY_GET}),
    "/ApplicationStatus": Page(_overview, "readiness"),
    "/status.html": Page(_status, "readiness"),
    "/state/v1": Page(_resources),
    "/state/v1/": Page(_resources),
    "/state/v1/health": Page(_health),
    "/state/v1/metrics": Page(_metrics),
    "/state/v1/version": Page(_version),
    "/metrics/v2/values": Page(_metrics_v2, "application", _ONLY_GET),
    "/ranker/v1/manifest": Page(_manifest, "application"),
    "/ranker/v1/tokenizer": Page(_tokenizer, "application"),
}
"""Path to page; the last two are for clients that have no package."""
