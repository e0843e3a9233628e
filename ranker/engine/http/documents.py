"""The document API: a method and a path to an operation, a read or a visit."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from ranker.artifacts.manifest import Manifest
from ranker.engine.documents.operations import (
    DocumentOperation,
    parse_put,
    parse_remove,
    parse_update,
)
from ranker.engine.errors import DocumentError
from ranker.engine.http.bodies import json_decoder, json_text
from ranker.engine.http.paths import Target, check_parameters
from ranker.engine.http.visits import fields_of, parse_sweep, parse_visit
from ranker.engine.storage.commits import Commits
from ranker.engine.storage.reader import Reader

__all__ = ["Documents", "Reply"]

DOCUMENT_JSON = json_decoder(strict=True)
"""Unlike a query, a document must have its control characters escaped, as in Vespa."""

LARGE_BODY = 100_000
"""Bytes above which a document is parsed away from the event loop."""

METHODS = ("GET", "POST", "PUT", "DELETE")
ROOT_METHODS = ("GET", "POST", "DELETE")
"""At `/document/v1/` itself, where an update would have no document type."""

OVERLOAD_S = 0.05
"""Seconds to wait when too many operations are waiting already."""

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of the document API.

    Attributes:
        status: HTTP status.
        body: JSON.
        stream: documents to send one after the other, after the body's own keys.
        allow: the methods that are allowed, in reply to OPTIONS.
    """

    status: int
    body: dict[str, Any]
    stream: Iterator[dict[str, Any]] | None = None
    allow: str | None = field(default=None)


class Documents:
    """The document API of one application.

    Args:
        manifest: the application.
        commits: where operations go.
        reader: the documents.
        pool: threads for reading.
    """

    def __init__(
        self, manifest: Manifest, commits: Commits, reader: Reader, pool: Executor
    ) -> None:
        self.manifest = manifest
        self._commits = commits
        self._reader = reader
        self._pool = pool

    async def handle(
        self, method: str, target: Target, pairs: Mapping[str, str], body: bytes
    ) -> Reply:
        """Return the reply to a request.

        Raises:
            DocumentError: the request was refused or failed.
        """
        methods = METHODS if target.schema is not None else ROOT_METHODS
        if method == "OPTIONS":
            return Reply(204, {}, allow=",".join(methods))
        if method not in methods:
            expected = ", ".join(methods)
            raise DocumentError(405, f"expected one of {expected} at '{target.path}', got {method}")
        timeout_s = check_parameters(method, target, pairs)
        if "dryRun" in pairs and (target.document_id is None or method == "GET"):
            raise DocumentError(400, f"'dryRun' has no meaning for {method} at '{target.path}'")
        id_ = str(target.document_id)
        done = Reply(200, {"pathId": target.path, "id": id_})
        if pairs.get("dryRun", "").lower() == "true":
            return done  # without reading anything of the operation, as in Vespa
        if target.schema is not None and target.schema != self.manifest.schema:
            raise DocumentError(
                400, f"expected the document type {self.manifest.schema}, got '{target.schema}'"
            )
        if target.document_id is None:
            if method == "GET":
                return await self._visit(target, pairs, timeout_s)
            return await self._sweep(method, target, pairs, body, timeout_s)
        if method == "GET":
            render = fields_of(pairs.get("fieldSet"), self.manifest)
            document = await self._run(self._reader.get, id_)
            if document is None:
                return replace(done, status=404)
            return Reply(200, {**done.body, "fields": render(document)})
        operation = await self._operation(method, id_, pairs, body)
        try:
            async with asyncio.timeout(timeout_s):
                await self._commits.submit(operation)
        except TimeoutError as error:
            raise DocumentError(
                504, f"the operation took longer than its timeout of {timeout_s * 1000:.0f} ms"
            ) from error
        return done

    async def _operation(
        self, method: str, id_: str, pairs: Mapping[str, str], body: bytes
    ) -> DocumentOperation:
        condition = pairs.get("condition")
        if method == "DELETE":
            return parse_remove(id_, self.manifest, condition=condition)
        create = pairs.get("create", "false").lower()
        if create not in ("true", "false"):
            raise DocumentError(400, f"'create': expected true or false, got '{create}'")
        parse = parse_put if method == "POST" else parse_update

        def parsed() -> DocumentOperation:
            return parse(
                id_, _json(body), self.manifest, condition=condition, create=create == "true"
            )

        return await self._run(parsed) if len(body) > LARGE_BODY else parsed()

    async def _visit(self, target: Target, pairs: Mapping[str, str], timeout_s: float) -> Reply:
        visit = parse_visit(target, pairs, self.manifest)
        if pairs.get("stream") == "true":
            return Reply(200, {"pathId": target.path}, stream=visit.stream(self._reader))
        page = await self._run(lambda: visit.page(self._reader, timeout_s=timeout_s))
        body: dict[str, Any] = {
            "pathId": target.path,
            "documents": page.documents,
            "documentCount": len(page.documents),
        }
        if page.continuation is not None:
            body["continuation"] = page.continuation
        return Reply(200, body)

    async def _sweep(
        self, method: str, target: Target, pairs: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Reply:
        """Remove or update the documents of a selection, or a part of them if time runs out."""
        if method == "POST":
            raise DocumentError(
                400,
                "copying is not supported by the embedded engine, which has one content cluster; "
                f"to write one document, put its id at the end of '{target.path}'",
            )
        visit, chunk_s = parse_sweep(target, pairs, self.manifest)
        make = self._each(method, pairs["selection"], body)
        count, end = 0, time.monotonic() + min(chunk_s, timeout_s)
        while True:
            page = await self._run(partial(visit.page, self._reader, timeout_s=timeout_s))
            ids = [document["id"] for document in page.documents]
            errors = await asyncio.gather(*(self._submitted(make(id_)) for id_ in ids))
            count += len(ids)
            reply: dict[str, Any] = {"pathId": target.path, "documentCount": count}
            if error := next(filter(None, errors), None):
                return Reply(500, {**reply, "message": error.message})
            if page.continuation is None:
                return Reply(200, reply)
            if time.monotonic() >= end:
                return Reply(200, {**reply, "continuation": page.continuation})
            visit = visit.following(page)

    def _each(self, method: str, selection: str, body: bytes) -> Callable[[str], DocumentOperation]:
        """Return what makes the operation of a selected document, which repeats the selection."""
        if method == "DELETE":
            remove = parse_remove("", self.manifest, condition=selection)
            return lambda id_: replace(remove, document_id=id_)
        update = parse_update("", _json(body), self.manifest, condition=selection, create=False)
        return lambda id_: replace(update, document_id=id_, create=False)

    async def _submitted(self, operation: DocumentOperation) -> DocumentError | None:
        """Run one of many operations; return its error, unless the document changed meanwhile."""
        while True:
            try:
                await self._commits.submit(operation)
            except DocumentError as error:
                if error.status == 429:  # the queue is full; it drains while this waits
                    await asyncio.sleep(OVERLOAD_S)
                    continue
                # 412: the document no longer meets the selection, so it is not one to change.
                return None if error.status == 412 else error
            return None

    async def _run(self, function: Callable[[*_Arguments], _T], *arguments: *_Arguments) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, function, *arguments)


def _json(body: bytes) -> Any:
    try:
        return DOCUMENT_JSON.decode(json_text(body))
    except ValueError as error:
        raise DocumentError(400, f"expected a JSON object as the body: {error}") from error
    except RecursionError as error:
        raise DocumentError(400, "the JSON body is nested too deeply") from error
