"""The document API: a method and a path to an operation, a read or a visit."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ranker.engine.commits import Commits
from ranker.engine.faults import DocumentFault
from ranker.engine.operations import Operation, parse_put, parse_remove, parse_update
from ranker.engine.paths import Target, checked_parameters
from ranker.engine.store import Reader
from ranker.engine.visits import fields_of, parse_visit
from ranker.manifest import Manifest

__all__ = ["Documents", "Reply"]

LARGE_BODY = 100_000
"""Bytes above which a document is parsed away from the event loop."""

_METHODS = ("GET", "POST", "PUT", "DELETE")
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
            DocumentFault: it was refused or failed.
        """
        if method == "OPTIONS":
            return Reply(204, {}, allow=",".join(_METHODS))
        if method not in _METHODS:
            raise DocumentFault(
                405,
                f"'{method}' not allowed at '{target.path}'. "
                f"Allowed methods are: {', '.join(_METHODS)}",
            )
        timeout_s = checked_parameters(pairs, self.manifest.schema)
        if target.type is not None and target.type != self.manifest.schema:
            raise DocumentFault(400, f"Document type {target.type} does not exist")
        if target.user_id is None:
            return await self._visit(method, target, pairs, timeout_s)
        if method == "GET":
            return await self._get(target, pairs)
        if pairs.get("dryRun") == "true":
            return _done(target)
        operation = await self._operation(method, target, pairs, body)
        try:
            async with asyncio.timeout(timeout_s):
                await self._commits.submit(operation)
        except TimeoutError as error:
            raise DocumentFault(504, f"Timeout after {timeout_s * 1000:.0f}ms") from error
        return _done(target)

    async def _get(self, target: Target, pairs: Mapping[str, str]) -> Reply:
        render = fields_of(pairs.get("fieldSet"), self.manifest)
        entry = await self._run(self._reader.get, target.id)
        body = {"pathId": target.path, "id": target.id}
        return Reply(200, {**body, "fields": render(entry)}) if entry else Reply(404, body)

    async def _operation(
        self, method: str, target: Target, pairs: Mapping[str, str], body: bytes
    ) -> Operation:
        condition = pairs.get("condition")
        if method == "DELETE":
            return parse_remove(target.id, self.manifest, condition=condition)
        create = pairs.get("create", "false")
        if create not in ("true", "false"):
            raise DocumentFault(400, f"Expected true or false for 'create', got '{create}'")
        parse = parse_put if method == "POST" else parse_update

        def parsed() -> Operation:
            return parse(
                target.id, _json(body), self.manifest, condition=condition, create=create == "true"
            )

        return await self._run(parsed) if len(body) > LARGE_BODY else parsed()

    async def _visit(
        self, method: str, target: Target, pairs: Mapping[str, str], timeout_s: float
    ) -> Reply:
        if method != "GET":
            raise DocumentFault(
                400,
                f"'{method}' at '{target.path}' changes many documents at once, "
                "which is not supported by the embedded engine; name one document",
            )
        if "dryRun" in pairs:
            raise DocumentFault(400, f"May not specify 'dryRun' at '{target.path}'")
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
        raise DocumentFault(400, "expected start of root object, got null")
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DocumentFault(400, f"failed parsing document: {error}") from error
