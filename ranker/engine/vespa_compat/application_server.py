"""The container: an open data folder, and the application through which it is served now.

An application is taken over by a switch of one reference.  Requests that have begun end with the
application that they began with, so an answer is never of two models; new ones see the new one.
Documents and their index are shared.

An application with another token contract (possible only while there are no documents) is taken
over between requests: new ones wait for the moment that it takes.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from ranker.artifacts.manifest import Manifest
from ranker.engine.http import app
from ranker.engine.http.documents import Documents
from ranker.engine.rank.search import Search
from ranker.engine.storage.commits import Commits
from ranker.engine.storage.index import Index
from ranker.engine.storage.reader import Reader
from ranker.engine.storage.store import Store
from ranker.engine.vespa_compat.admission import open_scorer, unused_files
from ranker.errors import EndpointError
from ranker.export.score import Scorer
from ranker.package.application import Package

__all__ = ["Container", "ActiveApplication"]

logger = logging.getLogger(__name__)

DOCUMENTS = "documents.sqlite"

THREADS = 8
"""Queries and reads at a time; a query waits for the disk and the model, not for Python alone."""

DRAIN_S = 10.0
"""Longest wait for requests of the old contract before a new one is taken over, seconds."""


@dataclass
class ActiveApplication:
    """An application with its model loaded.

    Attributes:
        generation: number of its session.
        package: the package.
        asgi: answers requests.
        scorer: the model.
        unused: files of the package that mean nothing to the engine.
        requests: how many it is answering.
        retired: whether another one has taken over.
    """

    generation: int
    package: Package
    asgi: ASGIApp
    scorer: Scorer
    unused: list[str]
    requests: int = 0
    retired: bool = False


class Container:
    """Owns the data folder; used on one event loop, but for `load`.

    Args:
        data: the folder.
        empty: answers while there is no application.

    Raises:
        ArtifactError: the folder holds something else.
    """

    def __init__(self, data: Path, empty: ASGIApp) -> None:
        self.served: ActiveApplication | None = None
        self._empty = empty
        self._counts: Counter[str] = Counter()
        self._store = Store(data / DOCUMENTS)
        self._reader = Reader(data / DOCUMENTS)
        self._index = Index(
            data / "index", self._reader, self._store.totals, self._store.forget_later
        )
        self._commits = Commits(self._store, self._index.follow)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="search")
        self._open = asyncio.Event()
        self._open.set()
        logger.info("%d documents in %s", self._store.totals.documents, data)

    @property
    def session(self) -> int | None:
        """Number of the session that was activated last; None for none."""
        return self._store.session

    @property
    def given(self) -> str | None:
        """Hash of the package that the engine was started with last; None for none."""
        return self._store.given

    def require_fits(self, manifest: Manifest) -> None:
        """Refuse an application that cannot use the documents that are there.

        Raises:
            ArtifactError: they are of another contract or schema.
        """
        self._store.require_fits(manifest)

    def load(self, package: Package, generation: int) -> ActiveApplication:
        """Load an application; nothing is changed by that.

        Raises:
            RankerError: its model cannot be used.
        """
        manifest = package.manifest
        scorer = open_scorer(package)
        search = Search(manifest, self._index, self._reader, scorer)
        documents = Documents(manifest, self._commits, self._reader, self._pool)
        asgi = app.application(
            package, search, documents, self._pool, generation=generation, counts=self._counts
        )
        return ActiveApplication(generation, package, asgi, scorer, unused_files(package.path))

    def start(self, served: ActiveApplication, given: str | None = None) -> None:
        """Serve an application from the start on; before the event loop runs.

        Args:
            served: the application.
            given: hash of the package that the engine is started with.

        Raises:
            ArtifactError: the documents are not its own.
        """
        self._store.adopt(served.package.manifest, served.generation, given)
        self.served = served

    async def activate(self, served: ActiveApplication) -> None:
        """Take over an application; it is on the disk that this is the one.

        Raises:
            ArtifactError: the documents are not its own, or the disk refuses.
            EndpointError: the requests under the old contract did not end in time.
        """
        manifest = served.package.manifest

        def adopt(store: Store) -> None:
            store.adopt(manifest, served.generation)

        async with self._quiet(self._store.same_contract(manifest)):
            await self._commits.between(adopt)
            old, self.served = self.served, served
        logger.info("session %d is served", served.generation)
        if old is not None:
            old.retired = True
            await self._retire(old)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the application of this moment."""
        await self._open.wait()
        served = self.served
        if served is None:
            await self._empty(scope, receive, send)
            return
        served.requests += 1
        try:
            await served.asgi(scope, receive, send)
        finally:
            served.requests -= 1
            await self._retire(served)

    def close(self) -> None:
        """Stop everything; the documents and the index are complete on the disk after it."""
        steps: list[Callable[[], object]] = [
            self._pool.shutdown,
            self._commits.close,
            self._index.close,
        ]
        if self.served is not None:
            steps.append(self.served.scorer.close)
        with contextlib.ExitStack() as stack:
            for step in reversed(steps):
                stack.callback(step)

    @contextlib.asynccontextmanager
    async def _quiet(self, same: bool) -> AsyncIterator[None]:
        """A moment without requests, unless the contract stays the same."""
        if same:
            yield
            return
        self._open.clear()
        try:
            async with asyncio.timeout(DRAIN_S):
                while self.served is not None and self.served.requests:
                    await asyncio.sleep(0.005)
                await self._commits.drained()
            yield
        except TimeoutError as error:
            raise EndpointError(
                f"requests under the old token contract are still being answered after "
                f"{DRAIN_S:g} s; deploy again"
            ) from error
        finally:
            self._open.set()

    async def _retire(self, served: ActiveApplication) -> None:
        """Free the model of an application that nobody needs any more."""
        if served.retired and not served.requests:
            served.retired = False
            await asyncio.to_thread(served.scorer.close)
