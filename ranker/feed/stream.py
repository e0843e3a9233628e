"""A stream of documents to the server: bounded memory, retries, every document accounted for.

The calling thread reads, tokenizes and counts; worker threads send.  At most a few hundred
operations wait between them, whatever the length of the stream.
"""

import json
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
from ranker.errors import DataError, RankerError, ResponseError, UsageError
from ranker.feed.operation import Source, legal_document, operation_of, tokenized
from ranker.feed.report import Failure, FeedReport, FeedTally
from ranker.feed.sender import Outcome, Sender
from ranker.feed.window import Window, pause

__all__ = ["Progress", "feed"]

Progress = Callable[[int, int | None, float], None]
"""Called with the documents done, the total if known, and documents per second."""

CONNECTIONS = 64
WAITING = 4
"""Operations that wait for each connection: they bridge the time of tokenizing a batch."""

TICK_S = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    doc_id: str
    put: str
    body: bytes


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
    with one id the last one stays.  Ctrl-C ends with a report, too; a second one ends at once.

    Args:
        documents: the source, read once, in one thread.
        app: the application that is deployed there.
        url: where the document API is, as `http://localhost:8080`.
        connections: most requests under way; fewer when the server says that it has too much.
        total: length of the source, for the progress only.
        retry_s: how long to try again with one document after 429, 503, 504 or no answer, in
            seconds; if no document at all is accepted for that long, feeding stops.
        timeout_s: longest silence of the server, seconds.
        max_failures: feeding stops after so many failed documents.
        cert: PEM file with a client certificate, for Vespa Cloud.
        key: PEM file with its key.
        on_progress: called a few times a second, in the calling thread.

    Returns:
        The account; `require_complete()` turns a gap in it into an error.

    Raises:
        UsageError: an option makes no sense.
        EndpointError: nothing answers at `url` (before the first document).
        SpecMismatch: the embedded engine there has another token contract (likewise).
    """
    if connections < 1:
        raise UsageError(f"connections must be 1 or more, got {connections}")
    if not 0 <= retry_s < math.inf:
        raise UsageError(f"retry_s must be 0 or more seconds and finite, got {retry_s:g}")
    endpoint = Endpoint.of(url, cert=cert, key=key)
    check_endpoint(endpoint, app.manifest)
    with Sender(endpoint, timeout_s=timeout_s) as sender:
        feeder = _Feeder(
            sender, url=endpoint.url, connections=connections, retry_s=retry_s, most=max_failures
        )
        progress = _Ticker(feeder.ledger, total, on_progress)
        return feeder.run(_jobs(documents, app, feeder.ledger), progress.tick)


def check_endpoint(endpoint: Endpoint, manifest: Manifest) -> None:
    """Refuse to feed where nothing answers, or to an engine with another token contract.

    Only the embedded engine hands out a manifest; any other answer is taken for Vespa's.

    Raises:
        EndpointError: nothing answers, or it does not let us in.
        SpecMismatch: the engine's contract is another one.
    """
    with Http(endpoint) as http:
        answer = http.get("/ranker/v1/manifest")
    if answer.status == 200:
        theirs = Manifest.from_dict(answer.json(), where=f"{endpoint.url}/ranker/v1/manifest")
        manifest.spec.require_same(
            theirs.spec, here="the application package", there=f"the engine at {endpoint.url}"
        )
    elif answer.status != 404:
        raise ResponseError(
            f"{endpoint.url} does not take documents: HTTP {answer.status}, {answer.excerpt()!r}",
            status=answer.status,
        )


def _jobs(documents: Iterable[Source], app: App, ledger: FeedTally) -> Iterator[_Job]:
    """Ready requests; documents without a usable id go straight to the ledger."""
    for document, rows in tokenized(documents, app):
        clean = legal_document(document)
        ledger.add(document.doc_id, cleaned=clean is not document)
        try:
            operation = operation_of(clean, rows, app)
        except DataError as error:
            ledger.fail(Failure(document.doc_id, None, str(error)))
            continue
        body = json.dumps({"fields": operation["fields"]}).encode()
        yield _Job(document.doc_id, operation["put"], body)


class _Ticker:
    """Calls `on_progress` every tenth of a second."""

    def __init__(self, ledger: FeedTally, total: int | None, on_progress: Progress | None) -> None:
        self._ledger, self._total, self._call = ledger, total, on_progress
        self._next = 0.0

    def tick(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._call is None or (now < self._next and not last):
            return
        self._next = now + TICK_S
        done = self._ledger.done
        self._call(done, self._total, done / max(now - self._ledger.start, 1e-9))


class _Feeder:
    """The threads of one feed and what they share."""

    def __init__(
        self, sender: Sender, *, url: str, connections: int, retry_s: float, most: int
    ) -> None:
        self.ledger = FeedTally()
        self._sender, self._url = sender, url
        self._retry_s, self._most_failures = retry_s, most
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

    def run(self, jobs: Iterator[_Job], tick: Callable[..., None]) -> FeedReport:
        """Send every job; returns when none is under way."""
        for thread in self._threads:
            thread.start()
        try:
            try:
                self._read(jobs, tick)
                self._join(tick)
            except KeyboardInterrupt:
                self._halt("interrupted")
                self._join(tick)
        finally:
            self._stop.set()
            self._end_of_jobs()
        tick(last=True)
        return self.ledger.report(self._reason)

    def _read(self, jobs: Iterator[_Job], tick: Callable[..., None]) -> None:
        try:
            for job in jobs:
                if not self._submit(job, tick):
                    return self._give_up(job)
                tick()
        except (RankerError, OSError, UnicodeError) as error:
            # A bad line in the source: what was read before it still goes out.
            self._reason = self._reason or f"the source cannot be read on: {error}"

    def _submit(self, job: _Job, tick: Callable[..., None]) -> bool:
        """Queue a job when there is room and no older one of the same id is under way."""
        with self._room:
            self._awaited = job.doc_id
            while not self._stop.is_set():
                if len(self._pending) < self._capacity and job.doc_id not in self._pending:
                    self._pending.add(job.doc_id)
                    self._jobs.put(job)
                    return True
                self._room.wait(TICK_S)
                tick()
        return False

    def _join(self, tick: Callable[..., None]) -> None:
        """Wait until every queued job has met its fate."""
        self._end_of_jobs()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(TICK_S)
                tick()

    def _end_of_jobs(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._deliver(job)
            except Exception as error:  # a fault of ours must not lose a document from the account
                logger.exception("feeding %r", job.doc_id)
                self.ledger.fail(Failure(job.doc_id, None, f"internal error: {error!r}"))
            with self._room:
                self._pending.discard(job.doc_id)
                if job.doc_id == self._awaited or len(self._pending) <= self._capacity // 2:
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
            outcome = self._sender.send(job.put, job.body)
            self._window.leave(ticket, ok=outcome.ok, overload=outcome.overload)
            if outcome.ok:
                return self.ledger.acknowledge(attempts=attempt)
            wait = pause(attempt, retry_after=outcome.retry_after)
            if not outcome.retryable or time.monotonic() + wait - started > self._retry_s:
                return self._fail(job, outcome, attempt, started)
            self._stop.wait(wait)

    def _fail(self, job: _Job, outcome: Outcome, attempt: int, started: float) -> None:
        self.ledger.fail(Failure(job.doc_id, outcome.status, outcome.message), attempts=attempt)
        if outcome.status == 507:
            self._halt(f"the server is full (HTTP 507: {outcome.message}); make room there")
        elif outcome.retryable and self.ledger.last_ok <= started:
            last = f"HTTP {outcome.status}: " if outcome.status else ""
            said = f"accepted nothing for {self._retry_s:g} s"
            if outcome.retry_after > self._retry_s:
                said = (
                    f"asks to come back in {outcome.retry_after:g} s, which is more than the "
                    f"{self._retry_s:g} s that a document is retried for"
                )
            self._halt(f"{self._url} {said} (last: {last}{outcome.message})")
        elif len(self.ledger.failed) >= self._most_failures:
            self._halt(f"{self._most_failures} documents failed")

    def _give_up(self, job: _Job, outcome: Outcome | None = None, attempts: int = 0) -> None:
        """Account for a document that feeding stopped before."""
        if outcome is None:
            failure = Failure(job.doc_id, None, "not sent: feeding stopped")
        else:
            failure = Failure(job.doc_id, outcome.status, f"{outcome.message}; feeding stopped")
        self.ledger.fail(failure, attempts=attempts)

    def _halt(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._stop.set()
