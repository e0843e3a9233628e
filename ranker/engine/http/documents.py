"""The document API: a method and a path to an operation, a read or a visit."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from ranker.artifacts.manifest import Manifest
from ranker.engine.documents.operations import (
    DocumentOperation,
    parse_put,
    parse_remove,
    parse_update,
)
from ranker.engine.errors import DocumentError
from ranker.engine.http.bodies import json_text
from ranker.engine.http.paths import Target, checked_parameters
from ranker.engine.http.visits import fields_of, parse_sweep, parse_visit
from ranker.engine.storage.commits import Commits
from ranker.engine.storage.reader import Reader

__all__ = ["Documents", "Reply"]

LARGE_BODY = 100_000
"""Bytes above which a document is parsed away from the event loop."""

METHODS = ("GET", "POST", "PUT", "DELETE")
ROOT_METHODS = ("GET", "POST", "DELETE")

OVERLOAD_S = 0.05
"""Seconds to wait where too many operations wait already."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the document API.

    Attributes:
        status: HTTP status.
        body: JSON.
        stream: documents that follow one another instead of the body's own.
        allow: methods, where another was tried.
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
        """The reply to a request.

        Raises:
            DocumentError: it was refused or failed.
        """
        methods = METHODS if target.namespace is not None else ROOT_METHODS
        if method == "OPTIONS":
            return Reply(204, {}, allow=",".join(methods))
        if method not in methods:
            raise DocumentError(
                405,
                f"'{method}' not allowed at '{target.path}'. "
                f"Allowed methods are: {', '.join(methods)}",
            )
        timeout_s = checked_parameters(method, target, pairs)
        if "dryRun" in pairs and (target.user_id is None or method == "GET"):
            raise DocumentError(400, f"May not specify 'dryRun' at '{target.path}'")
        if pairs.get("dryRun", "").lower() == "true":
            return _done(target)  # nothing of the operation is looked at
        if target.type is not None and target.type != self.manifest.schema:
            raise DocumentError(400, f"Document type {target.type} does not exist")
        if target.user_id is None:
            if method == "GET":
                return await self._visit(target, pairs, timeout_s)
            return await self._sweep(method, target, pairs, body, timeout_s)
        if method == "GET":
            return await self._get(target, pairs)
        operation = await self._operation(method, target, pairs, body)
        try:
            async with asyncio.timeout(timeout_s):
                await self._commits.submit(operation)
        except TimeoutError as error:
            raise DocumentError(504, f"Timeout after {timeout_s * 1000:.0f}ms") from error
        return _done(target)

    async def _get(self, target: Target, pairs: Mapping[str, str]) -> Reply:
        render = fields_of(pairs.get("fieldSet"), self.manifest)
        document = await self._run(self._reader.get, target.id)
        body = {"pathId": target.path, "id": target.id}
        return Reply(200, {**body, "fields": render(document)}) if document else Reply(404, body)

    async def _operation(
        self, method: str, target: Target, pairs: Mapping[str, str], body: bytes
    ) -> DocumentOperation:
        condition = pairs.get("condition")
        if method == "DELETE":
            return parse_remove(target.id, self.manifest, condition=condition)
        create = pairs.get("create", "false").lower()
        if create not in ("true", "false"):
            raise DocumentError(400, f"Expected true or false for 'create', got '{create}'")
        parse = parse_put if method == "POST" else parse_update

        def parsed() -> DocumentOperation:
            return parse(
                target.id, _json(body), self.manifest, condition=condition, create=create == "true"
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
        """Remove or update every document of a selection; a part of them where time is over."""
        if method == "POST":
            if "destinationCluster" not in pairs:
                raise DocumentError(400, f"Must specify 'destinationCluster' at '{target.path}'")
            raise DocumentError(
                400, "Copying is not supported by the embedded engine: it has one content cluster"
            )
        visit, chunk_s = parse_sweep(target, pairs, self.manifest)
        make = self._each(method, target, pairs["selection"], body)
        count, end = 0, time.monotonic() + min(chunk_s, timeout_s)
        while True:
            page = await self._run(partial(visit.page, self._reader, timeout_s=timeout_s))
            ids = [document["id"] for document in page.documents]
            faults = await asyncio.gather(*(self._submitted(make(id_)) for id_ in ids))
            count += len(ids)
            reply: dict[str, Any] = {"pathId": target.path, "documentCount": count}
            if fault := next(filter(None, faults), None):
                return Reply(500, {**reply, "message": fault.message})
            if page.continuation is None:
                return Reply(200, reply)
            if time.monotonic() >= end:
                return Reply(200, {**reply, "continuation": page.continuation})
            visit = visit.following(page)

    def _each(
        self, method: str, target: Target, selection: str, body: bytes
    ) -> Callable[[str], DocumentOperation]:
        """Makes the operation of a document that was selected, and must still be when it runs."""
        if method == "DELETE":
            remove = parse_remove(target.id, self.manifest, condition=selection)
            return lambda id_: replace(remove, document_id=id_)
        update = parse_update(
            target.id, _json(body), self.manifest, condition=selection, create=False
        )
        return lambda id_: replace(update, document_id=id_, create=False)

    async def _submitted(self, operation: DocumentOperation) -> DocumentError | None:
        """Run one of many operations; its fault, where it is not that of a race."""
        while True:
            try:
                await self._commits.submit(operation)
            except DocumentError as fault:
                if fault.status == 429:
                    await asyncio.sleep(OVERLOAD_S)
                    continue
                return None if fault.status == 412 else fault
            return None

    async def _run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, function, *arguments)


def _done(target: Target) -> Reply:
    return Reply(200, {"pathId": target.path, "id": target.id})


def _not_json(name: str) -> None:
    raise ValueError(f"Non-standard token '{name}'")


_DECODER = json.JSONDecoder(parse_constant=_not_json)


def _json(body: bytes) -> Any:
    if not body.strip():
        raise DocumentError(400, "expected start of root object, got null")
    try:
        return _DECODER.decode(json_text(body))
    except ValueError as error:
        raise DocumentError(400, f"failed parsing document: {error}") from error
    except RecursionError as error:
        raise DocumentError(400, "failed parsing document: it is nested too deeply") from error
