"""The HTTP side: routes of Vespa's container that clients use, as an ASGI application."""

import asyncio
import functools
import html
import itertools
import logging
import time
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ranker import __version__
from ranker.engine.errors import DocumentError, QueryError, http_status
from ranker.engine.http import status
from ranker.engine.http.bodies import BadBody, TooLarge, read_body
from ranker.engine.http.documents import Documents, Reply
from ranker.engine.http.parameters import json_parameters, merged
from ranker.engine.http.paths import PREFIX, target_of
from ranker.engine.http.render import answer_json, dumps, errors_json
from ranker.engine.http.uris import METHODS, BadUri, check_escapes, read_uri
from ranker.engine.rank.search import Search
from ranker.package.application import Package

__all__ = ["application"]

logger = logging.getLogger(__name__)

BAD_REQUEST = 17

_ONLY_GET = (
    "This API, BindingsOverviewHandler, only supports HTTP GET. You are probably looking for "
    "another API/path."
)


def application(
    package: Package,
    search: Search,
    documents: Documents,
    pool: Executor,
    *,
    generation: int = 1,
    counts: Counter[str] | None = None,
) -> ASGIApp:
    """The ASGI application.

    Args:
        package: what is served, for clients that ask.
        search: answers queries.
        documents: the document API.
        pool: threads on which queries run, so that the event loop stays free.
        generation: which deployment this is, for clients that ask.
        counts: counters to go on with; a deployment does not begin them anew.
    """
    api = _Api(package, search, documents, pool, Counter() if counts is None else counts)
    pages = _pages(package, api, generation)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await pages(scope, receive, send)
            return
        try:
            path = read_uri(scope)
        except BadUri as error:
            await _html_page(400, str(error))(scope, receive, send)
            return
        # A feed is thousands of requests a second: its path goes past router and middleware.
        if scope["method"] not in METHODS:
            await Response(status_code=405)(scope, receive, send)
        elif path.startswith(PREFIX):
            response = await api.document(scope, receive)
            await response(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return app


def _pages(package: Package, api: "_Api", generation: int) -> Starlette:
    overview = functools.partial(status.overview, generation=generation)
    json_pages = {
        "/ApplicationStatus": overview,
        "/state/v1": status.resources,
        "/state/v1/": status.resources,
        "/state/v1/health": status.health,
        "/state/v1/metrics": api.metrics,
        "/state/v1/version": status.version,
        "/ranker/v1/manifest": lambda request: package.manifest.to_dict(),
    }
    only_get = _json_response({"error": _ONLY_GET}, 405)
    only_get_metrics = PlainTextResponse("Only GET is supported", status_code=405)
    routes = {
        "/search": api.query,
        "/search/{rest:path}": api.query,
        "/": _only_read(_json_page(overview), only_get),
        "/metrics/v2/values": _only_read(_json_page(api.metrics_v2), only_get_metrics),
        "/status.html": _status_page,
        "/ranker/v1/tokenizer": api.tokenizer,
        **{path: _json_page(make) for path, make in json_pages.items()},
    }
    return Starlette(
        routes=[Route(path, page, methods=sorted(METHODS)) for path, page in routes.items()],
        exception_handlers={404: _no_binding},
    )


class _Api:
    def __init__(
        self,
        package: Package,
        search: Search,
        documents: Documents,
        pool: Executor,
        counts: Counter[str],
    ) -> None:
        self._package = package
        self._search = search
        self._documents = documents
        self._pool = pool
        self._counts = counts

    async def query(self, request: Request) -> ASGIApp:
        """`/search/`."""
        start = time.perf_counter()
        self._counts["queries"] += 1
        try:
            parameters = await _search_parameters(request)
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._pool, self._answer, parameters, start)
            return _json_response(body, 200)
        except QueryError as fault:
            faults = [_named(fault, request)]
        except BadUri as error:
            return _html_page(400, str(error))
        except TooLarge as error:
            return _json_response({"message": str(error)}, 413)
        except BadBody as error:
            faults = [QueryError(3, str(error))]
        except Exception as error:
            logger.exception("a query failed")
            faults = [QueryError(18, f"{type(error).__name__}: {error}")]
        self._counts["failed_queries"] += 1
        return _json_response(dumps(errors_json(faults)), http_status(faults))

    async def document(self, scope: Scope, receive: Receive) -> ASGIApp:
        """`/document/v1/`."""
        path, method = scope["path"], scope["method"]
        try:
            target = target_of(path)
            body = await read_body(scope, receive) if method in ("POST", "PUT") else b""
            query = scope["query_string"].decode("latin-1")
            pairs = dict(urllib.parse.parse_qsl(query, keep_blank_values=True)) if query else {}
            reply = await self._documents.handle(method, target, pairs, body)
            self._counts[f"documents_{method}"] += 1
            return _document_response(scope, reply)
        except DocumentError as fault:
            error = fault
        except TooLarge as large:
            error = DocumentError(413, str(large))
        except BadBody as bad:
            error = DocumentError(400, str(bad))
        except Exception as failure:
            logger.exception("a document operation failed")
            error = DocumentError(500, f"{type(failure).__name__}: {failure}")
        self._counts["failed_documents"] += 1
        return _json_response({"pathId": path, "message": error.message}, error.status)

    async def tokenizer(self, request: Request) -> Response:
        """The package's tokenizer.json, for clients without the package."""
        return Response(self._package.tokenizer_json, media_type="application/json")

    def metrics(self, request: Request) -> dict[str, Any]:
        """Counters, in the shape of `/state/v1/metrics`."""
        return status.metrics(self._values())

    def metrics_v2(self, request: Request) -> dict[str, Any]:
        """Counters, in the shape of `/metrics/v2/values`."""
        return status.metrics_v2(self._values())

    def _values(self) -> dict[str, float]:
        return {"documents": self._search.documents(), **self._counts}

    def _answer(self, parameters: Mapping[str, str], start: float) -> bytes:
        answer = self._search.answer(parameters, start=start)
        schema = self._package.manifest.schema
        elapsed = time.perf_counter() - start
        return dumps(answer_json(answer, schema=schema, elapsed_s=elapsed))


async def _search_parameters(request: Request) -> dict[str, str]:
    """Parameters of URL and body; a body counts as JSON only where it says so, as in Vespa."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body: dict[str, str] = {}
    if request.method == "POST" and kind == "application/json":
        body = json_parameters(await read_body(request.scope, request.receive))
    elif request.method == "POST" and kind == "application/x-www-form-urlencoded":
        form = await read_body(request.scope, request.receive)
        check_escapes("form", form)
        text = form.decode("utf-8", "replace")
        body = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
    return merged(body, request.query_params.multi_items())


def _named(fault: QueryError, request: Request) -> QueryError:
    """A bad request with its URI in the words, as Vespa has it."""
    if fault.code != BAD_REQUEST:
        return fault
    query = request.scope["query_string"].decode("latin-1")
    uri = request.scope["path"] + (f"?{query}" if query else "")
    return QueryError(fault.code, f"Invalid request [{uri}]: {fault.message}")


def _document_response(scope: Scope, reply: Reply) -> ASGIApp:
    if reply.stream is None:
        headers = {"Allow": reply.allow} if reply.allow else None
        if reply.status == 204:
            return Response(status_code=204, headers=headers)
        return _json_response(reply.body, reply.status)
    lines = b"application/jsonl" in dict(scope["headers"]).get(b"accept", b"")
    parts = _lines(reply.stream) if lines else _array(reply.body, reply.stream)
    kind = "application/jsonl" if lines else "application/json"
    return StreamingResponse(_threaded(parts), media_type=f"{kind}; charset=UTF-8")


def _lines(documents: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    count = 0
    for document in documents:
        count += 1
        yield dumps({"put": document["id"], "fields": document["fields"]}) + b"\n"
    yield dumps({"continuation": {"percentFinished": 100.0}}) + b"\n"
    yield dumps({"sessionStats": {"documentCount": count}}) + b"\n"


def _array(body: dict[str, Any], documents: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    yield dumps(body)[:-1] + b',"documents":['
    count = 0
    for document in documents:
        yield (b"," if count else b"") + dumps(document)
        count += 1
    yield b'],"documentCount":%d}' % count


async def _threaded(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Parts made on a thread, some at a time, so that the event loop stays free."""

    def some() -> bytes:
        return b"".join(itertools.islice(parts, 200))

    while chunk := await asyncio.to_thread(some):
        yield chunk


def _json_page(make: Any) -> Any:
    async def page(request: Request) -> ASGIApp:
        return _json_response(make(request), 200)

    return page


def _json_response(body: dict[str, Any] | bytes, code: int) -> ASGIApp:
    """An answer with nothing but JSON; half the time of Starlette's own."""
    content = body if isinstance(body, bytes) else dumps(body)
    length = str(len(content)).encode()
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", length)]

    async def response(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": code, "headers": headers})
        shown = b"" if scope["method"] == "HEAD" else content
        await send({"type": "http.response.body", "body": shown})

    return response


def _only_read(page: Any, refusal: ASGIApp) -> Any:
    """A page for GET and HEAD; every other method gets the refusal."""

    async def checked(request: Request) -> Any:
        return await page(request) if request.method in ("GET", "HEAD") else refusal

    return checked


async def _status_page(request: Request) -> Response:
    return Response("<title>OK</title>\n", media_type="text/html")


async def _no_binding(request: Request, error: Exception) -> Response:
    return _html_page(
        404,
        f"No binding for URI '{request.url}': the embedded engine of ranker {__version__} answers "
        "at /search/, /document/v1/, /state/v1/, /ApplicationStatus, /status.html, "
        "/metrics/v2/values and /ranker/v1/",
    )


def _html_page(code: int, message: str) -> Response:
    """What the HTTP server itself says, before a handler is found."""
    shown = html.escape(message)
    text = f"<html><head><title>Error {code} {shown}</title></head><body>{shown}</body></html>\n"
    return Response(text, status_code=code, media_type="text/html")
