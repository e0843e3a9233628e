"""The container without an application: pages for monitors, and an error for everything else."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ranker.engine.http import status
from ranker.engine.http.paths import PREFIX

__all__ = ["empty"]

SAID = "No application is deployed; deploy one: vespa deploy APP, or ranker deploy APP"


def empty(config_port: int | None) -> ASGIApp:
    """The ASGI application of an engine that has no application yet.

    Args:
        config_port: where the config server is asked, if not at the container's own port; the
            container then says of itself that it is not there yet, as Vespa's would.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = _response(Request(scope), config_port)
        await response(scope, receive, send)

    return app


def _response(request: Request, config_port: int | None) -> Response:
    path = request.url.path
    own_port = (request.scope.get("server") or ("", None))[1]
    if path.startswith("/state/v1"):
        return _state(request, path)
    if path in ("/", "/ApplicationStatus", "/status.html"):
        if config_port is not None and str(own_port) != str(config_port):
            return PlainTextResponse(f"{SAID}\n", 503)
        if path == "/status.html":
            return Response("<title>OK</title>\n", media_type="text/html")
        return JSONResponse(status.overview(request, application=False))
    if path == "/search" or path.startswith("/search/"):
        error = {"code": 0, "summary": "No backends in service. Try later", "message": SAID}
        root = {"id": "toplevel", "relevance": 1.0, "fields": {"totalCount": 0}}
        return JSONResponse({"root": {**root, "errors": [error]}}, 503)
    if path.startswith(PREFIX):
        return JSONResponse({"pathId": path, "message": SAID}, 503)
    if path.startswith("/ranker/v1/") or path == "/metrics/v2/values":
        return JSONResponse({"message": SAID}, 503)
    return PlainTextResponse(f"Error 404 No binding for URI '{request.url}'\n", 404)


def _state(request: Request, path: str) -> Response:
    page = path.removeprefix("/state/v1").strip("/")
    if page in ("health", "metrics"):
        return JSONResponse({**status.health(request), "status": {"code": "initializing"}})
    if page == "version":
        return JSONResponse(status.version(request))
    if page == "":
        return JSONResponse(status.resources(request))
    return PlainTextResponse(f"Error 404 No binding for URI '{request.url}'\n", 404)
