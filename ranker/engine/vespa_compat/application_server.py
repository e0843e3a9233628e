"""The application server: an open data folder, and the application that serves it now.

Activating an application replaces one reference.  A request is answered to its end by the
application that it began with, so an answer never mixes two models; new requests see the new
application.  Documents and their index are shared.

An application with another token contract (possible only while there are no documents) is
activated between requests: new ones wait for that moment.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from ranker.artifacts.manifest import Manifest
from ranker.engine.http.app import Application
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

__all__ = ["ActiveApplication", "ApplicationServer"]

logger = logging.getLogger(__name__)

DOCUMENTS = "documents.sqlite"

THREADS = 8
"""Queries and reads at the same time; a query also waits for the disk and the model."""

DRAIN_S = 10.0
"""Longest wait for requests under the old contract before a new one is activated, seconds."""


@dataclass
class ActiveApplication:
    """An application with its model loaded.

    Attributes:
        generation: number of its session.
        package: the package.
        asgi: answers requests.
        scorer: the model.
        unused: files of the package that the engine does not use.
        requests: number of requests that it is answering.
        retired: True once another application is active.
    """

    generation: int
    package: Package
    asgi: ASGIApp
    scorer: Scorer
    unused: list[str]
    requests: int = 0
    retired: bool = False


class ApplicationServer:
    """Owns the data folder; used on one event loop, except for `load`.

    Args:
        data: the folder.
        empty: answers while there is no application.

    Attributes:
        active: the application that answers now; None for none.

    Raises:
        ArtifactError: the folder holds something else.
    """

    def __init__(self, data: Path, empty: ASGIApp) -> None:
        self.active: ActiveApplication | None = None
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
        """The number of the session that was activated last; None for none."""
        return self._store.session

    @property
    def given(self) -> str | None:
        """The hash of the package that the engine was started with last; None for none."""
        return self._store.given

    def require_fits(self, manifest: Manifest) -> None:
        """Refuse an application that cannot use the stored documents.

        Raises:
            ArtifactError: the documents belong to another contract or schema.
        """
        self._store.require_fits(manifest)

    def load(self, package: Package, generation: int) -> ActiveApplication:
        """Load an application, without activating it.

        Raises:
            RankerError: its model cannot be used.
        """
        manifest = package.manifest
        scorer = open_scorer(package)
        search = Search(manifest, self._index, self._reader, scorer)
        documents = Documents(manifest, self._commits, self._reader, self._pool)
        asgi = Application(
            package, search, documents, self._pool, generation=generation, counts=self._counts
        )
        return ActiveApplication(generation, package, asgi, scorer, unused_files(package.path))

    def start(self, application: ActiveApplication, given: str | None = None) -> None:
        """Activate an application before the event loop runs.

        Args:
            application: the application.
            given: hash of the package that the engine is started with.

        Raises:
            ArtifactError: the stored documents belong to another contract or schema.
        """
        self._store.adopt(application.package.manifest, application.generation, given)
        self.active = application

    async def activate(self, application: ActiveApplication) -> None:
        """Activate an application; on disk it is the active one when this returns.

        Raises:
            ArtifactError: the documents belong to another contract, or a write to disk failed.
            EndpointError: the requests under the old contract did not end in time.
        """
        manifest = application.package.manifest

        def adopt(store: Store) -> None:
            store.adopt(manifest, application.generation)

        async with self._quiet(self._store.same_contract(manifest)):
            await self._commits.between(adopt)
            old, self.active = self.active, application
            # From here on new requests see the new application; the old one answers its own.
        logger.info("session %d is active", application.generation)
        if old is not None:
            old.retired = True
            await self._retire(old)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the application that is active now."""
        await self._open.wait()
        application = self.active
        if application is None:
            await self._empty(scope, receive, send)
            return
        application.requests += 1
        try:
            await application.asgi(scope, receive, send)
        finally:
            application.requests -= 1
            await self._retire(application)

    def close(self) -> None:
        """Stop everything; documents and index are complete on disk when this returns."""
        with contextlib.ExitStack() as last_first:  # each step runs even if one before it fails
            if self.active is not None:
                last_first.callback(self.active.scorer.close)
            last_first.callback(self._index.close)
            last_first.callback(self._commits.close)
            last_first.callback(self._pool.shutdown)

    @contextlib.asynccontextmanager
    async def _quiet(self, same_contract: bool) -> AsyncIterator[None]:
        """Hold new requests until the block ends, unless the contract stays the same."""
        if same_contract:
            yield
            return
        self._open.clear()
        try:
            async with asyncio.timeout(DRAIN_S):
                while self.active is not None and self.active.requests:
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

    async def _retire(self, application: ActiveApplication) -> None:
        """Free the model of an application that no request needs any more."""
        if application.retired and not application.requests:
            application.retired = False
            await asyncio.to_thread(application.scorer.close)
