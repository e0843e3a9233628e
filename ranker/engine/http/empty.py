"""The engine without an application: pages for monitors, and an error for everything else."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ranker.contract.document_id import DOCUMENT_API
from ranker.engine.errors import QueryError
from ranker.engine.http.render import error_json, json_response
from ranker.engine.http.status import PAGES, Subject, respond
from ranker.engine.http.uris import is_search

__all__ = ["empty"]

NO_APPLICATION = "No application is deployed; deploy one: vespa deploy APP, or ranker deploy APP"


def empty(config_port: int | None) -> ASGIApp:
    """Return the ASGI application of an engine that has no application yet.

    Args:
        config_port: the port for deployments, if it is another than the engine's own.  The
            engine's own port then reports that it is not ready, as Vespa's does.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _response(Request(scope), config_port)(scope, receive, send)

    return app


def _response(request: Request, config_port: int | None) -> ASGIApp:
    path = request.url.path
    page = PAGES.get(path)
    if is_search(path):
        error = QueryError(0, NO_APPLICATION)
        return json_response(error_json(error), error.status)
    if path.startswith(DOCUMENT_API):
        return json_response({"pathId": path, "message": NO_APPLICATION}, 503)
    if page is not None and page.needs == "application":
        return json_response({"message": NO_APPLICATION}, 503)
    own_port = (request.scope.get("server") or ("", None))[1]
    ready = config_port is None or str(own_port) == str(config_port)
    if page is not None and page.needs == "readiness" and not ready:
        return PlainTextResponse(f"{NO_APPLICATION}\n", 503)
    return respond(Subject(), request)
