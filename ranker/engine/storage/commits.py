"""Group commit: operations of many requests in one transaction, one fsync for all of them.

While a transaction is on its way to the disk the next operations queue up, so a batch is as large
as the load makes it and nobody waits for a timer.

The statements of a transaction run on the event loop, some 25 microseconds each, and only the
commit on a thread of its own: SQLite gives up Python's global lock for every statement, and a
thread that has to win it back each time from a busy event loop did a third of the work.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ranker.engine.documents.operations import DocumentOperation
from ranker.engine.errors import DocumentError
from ranker.engine.storage.store import Batch, Store

__all__ = ["Commits"]

logger = logging.getLogger(__name__)

LARGEST_BATCH = 500
MOST_WAITING = 10_000

_Ticket = tuple[DocumentOperation, asyncio.Future[None]]
_T = TypeVar("_T")


class Commits:
    """Owns the store; used on one event loop.

    Args:
        store: from now on used here only.
        follow: called with each batch after its commit and before anyone is told, so that a
            query sees what was acknowledged before it.
    """

    def __init__(self, store: Store, follow: Callable[[Batch], None]) -> None:
        self._store = store
        self._follow = follow
        self._waiting: deque[_Ticket] = deque()
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commits")
        self._turn = asyncio.Lock()

    async def submit(self, operation: DocumentOperation) -> None:
        """Run an operation; it is on disk when this returns.

        Raises:
            DocumentError: what the operation ended with, or 429 where too many wait already.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise DocumentError(
                429,
                f"Rejecting execution due to overload: {MOST_WAITING} requests already enqueued",
            )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((operation, done))
        if self._running is None:
            self._running = loop.create_task(self._run())
        await done

    async def between(self, function: Callable[[Store], _T]) -> _T:
        """Run a function on the store, on the commits' thread, while no transaction is open."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            return await loop.run_in_executor(self._thread, function, self._store)

    async def drained(self) -> None:
        """Wait until no operation waits; for ever, where new ones keep coming."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def close(self) -> None:
        """Wait for the commit that is on its way, then close the store."""
        self._thread.shutdown()
        self._store.close()

    async def _run(self) -> None:
        """Commit batch after batch while any operation waits."""
        try:
            while self._waiting:
                count = min(len(self._waiting), LARGEST_BATCH)
                tickets = [self._waiting.popleft() for _ in range(count)]
                async with self._turn:
                    await self._commit(tickets)
        finally:
            self._running = None

    async def _commit(self, tickets: list[_Ticket]) -> None:
        loop = asyncio.get_running_loop()
        outcomes: list[DocumentError | None]
        try:
            self._store.execute([operation for operation, _ in tickets])
            outcomes = await loop.run_in_executor(self._thread, self._finish)
        except Exception as error:  # nobody may wait for ever for an answer
            logger.exception("a batch of %d operations failed", len(tickets))
            fault = DocumentError(500, f"the document was not stored: {error!r}")
            outcomes = [fault] * len(tickets)
        for (_, done), outcome in zip(tickets, outcomes, strict=True):
            if done.cancelled():
                continue
            if outcome is None:
                done.set_result(None)
            else:
                done.set_exception(outcome)

    def _finish(self) -> list[DocumentError | None]:
        batch = self._store.commit()
        self._follow(batch)
        return batch.outcomes
