"""Group commit: operations of many requests in one transaction, one fsync for all of them.

While a transaction is being written to disk, the next operations queue up, so the size of a batch
follows the load and no request waits for a timer.

The statements of a transaction run on the event loop, about 25 microseconds each, and only the
commit on a thread of its own: SQLite releases Python's global lock for every statement, and a
thread that had to win it back from a busy event loop each time did a third of the work.
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
        store: from now on used only here.
        follow: called with each batch after its commit and before its operations are acknowledged,
            so that a query sees everything acknowledged before it.
    """

    def __init__(self, store: Store, follow: Callable[[Batch], None]) -> None:
        self._store = store
        self._follow = follow
        self._waiting: deque[_Ticket] = deque()
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commits")
        self._turn = asyncio.Lock()

    async def submit(self, operation: DocumentOperation) -> None:
        """Run an operation, which is on disk when this returns.

        Raises:
            DocumentError: the operation failed, or 429: too many operations wait already.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise DocumentError(429, f"{MOST_WAITING} operations wait already; send it again later")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((operation, done))
        if self._running is None:
            self._running = loop.create_task(self._run())
        await done

    async def between(self, function: Callable[[Store], _T]) -> _T:
        """Run a function on the store, in the thread of the commits, between two transactions."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            return await loop.run_in_executor(self._thread, function, self._store)

    async def drained(self) -> None:
        """Wait until no operation waits, which may be never while new ones keep coming."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def close(self) -> None:
        """Wait for the commit in progress, then close the store."""
        self._thread.shutdown()
        self._store.close()

    async def _run(self) -> None:
        """Commit batches while any operation waits."""
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
        except Exception as error:  # every operation must be answered
            logger.exception("a batch of %d operations failed", len(tickets))
            failure = DocumentError(500, f"the document was not stored: {error!r}")
            outcomes = [failure] * len(tickets)
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
