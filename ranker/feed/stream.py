"""Feeding a stream of documents: bounded memory, retries, every document accounted for.

The calling thread reads, tokenizes and counts; worker threads send.  At most a few hundred
operations wait between them, regardless of the length of the stream.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ranker.artifacts.manifest import Manifest
from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App
from ranker.errors import DataError, RankerError, ResponseError, SpecMismatch, UsageError
from ranker.feed.delivery import Outcome, Window, pause, send
from ranker.feed.operation import Source, tokenized
from ranker.feed.report import Failure, FeedReport, FeedTally

__all__ = ["Progress", "feed"]

Progress = Callable[[int, int | None, float], None]
"""Called with the number of documents done, the total if known, and documents per second."""

CONNECTIONS = 64
WAITING = 4
"""Operations that wait for each connection, which bridge the time of tokenizing a batch."""

TICK_S = 0.1

logger = logging.getLogger(__name__)


def feed(
    documents: Iterable[Source],
    app: App,
    url: str,
    *,
    connections: int = CONNECTIONS,
    total: int | None = None,
    retry_s: float = 120.0,
    timeout_s: float = 60.0,
    max_failures: int = 1000,
    cert: Path | None = None,
    key: Path | None = None,
    on_progress: Progress | None = None,
) -> FeedReport:
    """Feed documents to a Vespa container or to the embedded engine.

    Feeding again is harmless: a put replaces the document of the same id.  Of several documents
    with one id the last one stays.  Ctrl-C also ends with a report; a second one ends at once.

    Args:
        documents: the source, read once, in one thread.
        app: the application that is deployed there.
        url: where the document API is, as `http://localhost:8080`.
        connections: most requests under way; fewer while the server is overloaded.
        total: length of the source, for the progress only.
        retry_s: how long to retry one document after 429, 502, 503, 504 or no answer; if no
            document at all is accepted for that long, feeding stops.
        timeout_s: longest wait for the response to one request.
        max_failures: feeding stops after this number of failed documents.
        cert: PEM file with a client certificate, for Vespa Cloud.
        key: PEM file with its key.
        on_progress: called a few times a second, in the calling thread.

    Returns:
        The account of every document; its `require_complete()` raises if one did not arrive.

    Raises:
        UsageError: an option makes no sense.
        EndpointError: nothing answers at `url` (before the first document).
        SpecMismatch: the embedded engine at `url` has another token contract (likewise).
    """
    if connections < 1:
        raise UsageError(f"connections must be 1 or more, got {connections}")
    if not 0 <= retry_s < math.inf:
        raise UsageError(f"retry_s must be 0 or more seconds and finite, got {retry_s:g}")
    with Http(Endpoint.of(url, cert=cert, key=key)) as http:
        _check_server(http, app.manifest)
        feeder = _Feeder(
            http,
            connections=connections,
            retry_s=retry_s,
            timeout_s=timeout_s,
            max_failures=max_failures,
        )
        return feeder.run(documents, app, _Ticker(feeder.tally, total, on_progress))


def _check_server(http: Http, manifest: Manifest) -> None:
    """Refuse to feed where nothing answers, or to an engine with another token contract.

    Only the embedded engine hands out a manifest; any other response is taken for Vespa's.

    Raises:
        EndpointError: nothing answers, or it does not let us in.
        SpecMismatch: the engine's contract is another one.
    """
    response = http.get("/ranker/v1/manifest")
    if response.status == 200:
        theirs = Manifest.from_dict(response.json(), where=response.url)
        manifest.spec.require_same(
            theirs.spec, here="the application package", there=f"the engine at {http.url}"
        )
        if manifest.storage != theirs.storage:
            raise SpecMismatch(
                f"token ids are stored in another form: the application package has "
                f"{manifest.storage.name}, the engine at {http.url} {theirs.storage.name}; feed "
                "with the package that is deployed there"
            )
    elif response.status != 404:
        raise ResponseError(
            f"{http.url} does not take documents: HTTP {response.status}, {response.excerpt()!r}",
            status=response.status,
        )


class _Ticker:
    """Calls `on_progress` every tenth of a second."""

    def __init__(self, tally: FeedTally, total: int | None, on_progress: Progress | None) -> None:
        self._tally, self._total, self._call = tally, total, on_progress
        self._next = 0.0

    def tick(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._call is None or (now < self._next and not last):
            return
        self._next = now + TICK_S
        done = self._tally.done
        self._call(done, self._total, done / max(now - self._tally.start, 1e-9))


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that puts a document, and the document's name in the account."""

    name: str
    path: str
    body: bytes


class _Feeder:
    """The threads of one feed and what they share."""

    def __init__(
        self,
        http: Http,
        *,
        connections: int,
        retry_s: float,
        timeout_s: float,
        max_failures: int,
    ) -> None:
        self.tally = FeedTally()
        self._http, self._timeout_s = http, timeout_s
        self._retry_s, self._max_failures = retry_s, max_failures
        self._window = Window(connections)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._capacity = connections * WAITING
        self._pending: set[str] = set()
        self._awaited = ""
        self._room = threading.Condition()
        self._stop = threading.Event()
        self._reason: str | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"feed-{number}", daemon=True)
            for number in range(connections)
        ]

    def run(self, documents: Iterable[Source], app: App, ticker: _Ticker) -> FeedReport:
        """Send every document; return when no request is under way."""
        for thread in self._threads:
            thread.start()
        try:
            try:
                self._read(self._prepared(documents, app), ticker)
                self._join(ticker)
            except KeyboardInterrupt:
                self._halt("interrupted")
                self._join(ticker)
        finally:
            self._stop.set()
            self._end_of_jobs()
        ticker.tick(last=True)
        return self.tally.report(self._reason)

    def _prepared(self, documents: Iterable[Source], app: App) -> Iterator[_Job]:
        """Make the operations; a document without a usable id goes straight to the account."""
        for document in tokenized(documents, app):
            self.tally.add(document.name, sanitized=document.sanitized)
            try:
                put = document.put(app)
            except DataError as error:
                self.tally.fail(Failure(document.name, None, str(error)))
                continue
            yield _Job(document.name, put.document_id.path, put.body())

    def _read(self, jobs: Iterator[_Job], ticker: _Ticker) -> None:
        try:
            for job in jobs:
                if not self._submit(job, ticker):
                    return self._give_up(job)
                ticker.tick()
        except (RankerError, OSError, UnicodeError) as error:
            # A bad line in the source: what was read before it still goes out.
            self._reason = self._reason or f"the rest of the source cannot be read: {error}"

    def _submit(self, job: _Job, ticker: _Ticker) -> bool:
        """Queue a job when there is room and no older one of the same id is under way."""
        with self._room:
            self._awaited = job.name
            while not self._stop.is_set():
                if len(self._pending) < self._capacity and job.name not in self._pending:
                    self._pending.add(job.name)
                    self._jobs.put(job)
                    return True
                self._room.wait(TICK_S)
                ticker.tick()
        return False

    def _join(self, ticker: _Ticker) -> None:
        """Wait until the outcome of every queued job is known."""
        self._end_of_jobs()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(TICK_S)
                ticker.tick()

    def _end_of_jobs(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._deliver(job)
            except Exception as error:  # a bug of ours must not lose a document from the account
                logger.exception("feeding %r", job.name)
                self.tally.fail(Failure(job.name, None, f"internal error: {error!r}"))
            with self._room:
                self._pending.discard(job.name)
                if job.name == self._awaited or len(self._pending) <= self._capacity // 2:
                    self._room.notify()

    def _deliver(self, job: _Job) -> None:
        started, attempt = time.monotonic(), 0
        outcome: Outcome | None = None
        while True:
            ticket = self._window.enter()
            if self._stop.is_set():
                self._window.leave(ticket, ok=False, overload=False)
                return self._give_up(job, outcome, attempt)
            attempt += 1
            outcome = send(job.path, job.body, self._http, timeout_s=self._timeout_s)
            self._window.leave(ticket, ok=outcome.ok, overload=outcome.overload)
            if outcome.ok:
                return self.tally.acknowledge(attempts=attempt)
            wait = pause(attempt, retry_after_s=outcome.retry_after_s)
            if not outcome.retryable or time.monotonic() + wait - started > self._retry_s:
                return self._fail(job, outcome, attempt, started)
            self._stop.wait(wait)

    def _fail(self, job: _Job, outcome: Outcome, attempt: int, started: float) -> None:
        self.tally.fail(Failure(job.name, outcome.status, outcome.message), attempts=attempt)
        if outcome.status == 507:
            self._halt(f"the server is full (HTTP 507: {outcome.message}); make room there")
        elif outcome.retryable and self.tally.last_ok <= started:
            last = f"HTTP {outcome.status}: " if outcome.status else ""
            what = f"accepted nothing for {self._retry_s:g} s"
            if outcome.retry_after_s > self._retry_s:
                what = (
                    f"asks to come back in {outcome.retry_after_s:g} s, which is more than the "
                    f"{self._retry_s:g} s that a document is retried for"
                )
            self._halt(f"{self._http.url} {what} (last: {last}{outcome.message})")
        elif len(self.tally.failed) >= self._max_failures:
            self._halt(f"{self._max_failures} documents failed")

    def _give_up(self, job: _Job, outcome: Outcome | None = None, attempts: int = 0) -> None:
        """Account for a document that was not acknowledged when feeding stopped."""
        if outcome is None:
            failure = Failure(job.name, None, "not sent: feeding stopped")
        else:
            failure = Failure(job.name, outcome.status, f"{outcome.message}; feeding stopped")
        self.tally.fail(failure, attempts=attempts)

    def _halt(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._stop.set()
