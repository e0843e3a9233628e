"""The HTTP side: the paths of Vespa's container that clients use, as an ASGI application.

A page that the engine shows of itself is a row in `status.PAGES`; searches and documents, which
have a body and run on threads, are answered here.
"""

import asyncio
import itertools
import logging
import time
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ranker.contract.document_id import DOCUMENT_API
from ranker.engine.errors import DocumentError, QueryError, illegal_query
from ranker.engine.http.bodies import BodyError, read_body
from ranker.engine.http.documents import Documents, Reply
from ranker.engine.http.parameters import json_parameters, merged
from ranker.engine.http.paths import target_of
from ranker.engine.http.render import dumps, error_json, json_response, result_json
from ranker.engine.http.status import Subject, respond
from ranker.engine.http.uris import METHODS, UriError, check_escapes, is_search, read_uri
from ranker.engine.query.properties import Parameters
from ranker.engine.rank.search import Search
from ranker.package.application import Package

__all__ = ["Application"]

logger = logging.getLogger(__name__)

LINES = "application/jsonl"
"""The content type of a stream with one document a line."""


class Application:
    """The ASGI application.

    Args:
        package: the application package, for clients that ask.
        search: answers queries.
        documents: the document API.
        pool: threads on which queries run, so that the event loop stays free.
        generation: which deployment this is, for clients that ask.
        counts: counters to continue; a deployment does not reset them.
    """

    def __init__(
        self,
        package: Package,
        search: Search,
        documents: Documents,
        pool: Executor,
        *,
        generation: int = 1,
        counts: Counter[str] | None = None,
    ) -> None:
        self._schema = package.manifest.schema
        self._search = search
        self._documents = documents
        self._pool = pool
        self._counts = Counter() if counts is None else counts
        self._subject = Subject(package, generation, self._values)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await (await self._response(scope, receive))(scope, receive, send)

    async def _response(self, scope: Scope, receive: Receive) -> ASGIApp:
        try:
            path = read_uri(scope)
            if scope["method"] not in METHODS:
                return Response(status_code=405)
            if path.startswith(DOCUMENT_API):
                return await self._document(scope, receive)
            request = Request(scope, receive)
            return (
                await self._query(request) if is_search(path) else respond(self._subject, request)
            )
        except UriError as error:
            return PlainTextResponse(f"bad request: {error}\n", 400)

    async def _query(self, request: Request) -> ASGIApp:
        start = time.perf_counter()
        self._counts["queries"] += 1
        try:
            parameters = await _search_parameters(request)
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._pool, self._result, parameters, start)
            return json_response(body, 200)
        except QueryError as query_error:
            error = query_error
        except BodyError as body_error:
            if body_error.status == 413:
                return json_response({"message": body_error.message}, 413)
            error = illegal_query(body_error.message)
        except UriError:  # of a form, which is read like the query part of a URI
            raise
        except Exception as failure:
            logger.exception("a query failed")
            error = QueryError(18, f"{type(failure).__name__}: {failure}")
        self._counts["failed_queries"] += 1
        return json_response(error_json(error), error.status)

    def _result(self, parameters: Parameters, start: float) -> bytes:
        result = self._search.answer(parameters, start=start)
        elapsed_s = time.perf_counter() - start
        return dumps(result_json(result, schema=self._schema, elapsed_s=elapsed_s))

    async def _document(self, scope: Scope, receive: Receive) -> ASGIApp:
        path, method = scope["path"], scope["method"]
        try:
            target = target_of(path)
            body = await read_body(scope, receive) if method in ("POST", "PUT") else b""
            query = scope["query_string"].decode("latin-1")
            pairs = dict(urllib.parse.parse_qsl(query, keep_blank_values=True)) if query else {}
            reply = await self._documents.handle(method, target, pairs, body)
            self._counts[f"documents_{method}"] += 1
            return _document_response(scope, reply)
        except (DocumentError, BodyError) as refusal:
            status, message = refusal.status, refusal.message
        except Exception as failure:
            logger.exception("a document operation failed")
            status, message = 500, f"{type(failure).__name__}: {failure}"
        self._counts["failed_documents"] += 1
        return json_response({"pathId": path, "message": message}, status)

    def _values(self) -> dict[str, float]:
        return {"documents": self._search.documents(), **self._counts}


async def _search_parameters(request: Request) -> Parameters:
    """Read the parameters of URL and body; as in Vespa, a body is JSON only if its type says so."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body: Parameters = {}
    if request.method == "POST" and kind == "application/json":
        body = json_parameters(await read_body(request.scope, request.receive))
    elif request.method == "POST" and kind == "application/x-www-form-urlencoded":
        form = await read_body(request.scope, request.receive)
        check_escapes("form", form)
        text = form.decode("utf-8", "replace")
        body = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
    return merged(body, request.query_params.multi_items())


def _document_response(scope: Scope, reply: Reply) -> ASGIApp:
    if reply.status == 204:
        return Response(status_code=204, headers={"Allow": reply.allow or ""})
    if reply.stream is None:
        return json_response(reply.body, reply.status)
    # JSON lines only go to clients that accept them.
    lines = LINES.encode() in dict(scope["headers"]).get(b"accept", b"")
    parts = _lines(reply.stream) if lines else _array(reply.body, reply.stream)
    kind = LINES if lines else "application/json"
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
    """Yield parts that are made on a thread, some at a time, so that the event loop stays free."""

    def some() -> bytes:
        return b"".join(itertools.islice(parts, 200))

    while chunk := await asyncio.to_thread(some):
        yield chunk
