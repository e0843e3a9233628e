"""Documents become operations, and each is accounted for regardless of what the server does."""

import email.utils
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import certificates
from engine_support import WORDS, EngineProcess, free_port, make_app
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import DROP, Reply, Request, ScriptedServer, scripted

from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App, Client
from ranker.errors import (
    ArtifactError,
    DataError,
    EndpointError,
    FeedError,
    ResponseError,
    SpecMismatch,
    UsageError,
)
from ranker.feed import Failure, FeedReport, feed, operations, write_operations
from ranker.feed.delivery import Window, pause
from ranker.records import Document

OK = Reply(200, {"pathId": "/document/v1/…", "id": "id:ranker:doc::…"})


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    return App.open(make_app(tmp_path_factory.mktemp("feed") / "app"))


def corpus(count: int) -> list[Document]:
    pick = random.Random(7)
    return [
        Document(f"d{n}", " ".join(pick.choices(WORDS, k=3)), " ".join(pick.choices(WORDS, k=9)))
        for n in range(count)
    ]


class Store:
    """A server that stores what it acknowledges, with the failures that a test prescribes.

    `fault(doc_id, attempt)` returns a reply instead of the acknowledgement, or None.
    """

    def __init__(self, fault: Callable[[str, int], Reply | None] = lambda *_: None) -> None:
        self.fault = fault
        self.kept: dict[str, dict[str, Any]] = {}
        self.attempts: Counter[str] = Counter()
        self.times: dict[str, list[float]] = defaultdict(list)
        self.order: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        if not request.path.startswith("/document/v1/ranker/doc/docid/"):
            return Reply(404)
        with self._lock:
            self.attempts[request.doc_id] += 1
            attempt = self.attempts[request.doc_id]
            self.times[request.doc_id].append(time.monotonic())
        reply = self.fault(request.doc_id, attempt)
        if reply is None or reply.status == 200:  # a late or cut answer is about a kept document
            with self._lock:
                self.kept[request.doc_id] = request.json()["fields"]
                self.order.append(request.json()["fields"]["title"])
        return reply or OK


def check_account(report: FeedReport, documents: Iterable[Document], store: Store) -> None:
    """Check what must hold of every report."""
    ids = [document.doc_id for document in documents]
    assert report.read == report.ok + len(report.failed) == len(ids)
    failed = Counter(failure.document for failure in report.failed)
    assert not failed - Counter(ids)
    acknowledged = Counter(ids) - failed
    assert acknowledged.total() == report.ok
    assert set(acknowledged) <= set(store.kept)
    assert report.complete == (not report.failed and report.stopped is None)


# The operation


def operation_of(document: Document, app: App) -> dict[str, Any]:
    (operation,) = operations([document], app)
    return operation


def test_the_operation_of_a_document(app: App) -> None:
    document = Document("a/b", "red fox", "runs")
    ids = app.encoder.document_ids(document)
    assert len(ids) == 3
    assert operation_of(document, app) == {
        "put": "id:ranker:doc::a/b",
        "fields": {
            "doc_id": "a/b",
            "title": "red fox",
            "text": "runs",
            "doc_token_ids": {"values": ids + [0] * 92},
            "token_fingerprint": int(app.manifest.spec.fingerprint, 16),
        },
    }


def test_full_and_empty_documents_have_the_same_number_of_cells(app: App) -> None:
    long = Document("x", "", "red " * 500)
    for operation in operations([long, Document("y", "", "")], app):
        values = operation["fields"]["doc_token_ids"]["values"]
        assert len(values) == 95 and set(values) in ({WORDS.index("red") + 5}, {0})


def test_texts_are_sanitized_and_ids_are_not(app: App) -> None:
    dirty = Document("x", "red\x00fox", "runs\ud800\uffff")
    fields = operation_of(dirty, app)["fields"]
    assert (fields["title"], fields["text"]) == ("red fox", "runs  ")
    for bad in ("a\x01", "\ud800"):
        with pytest.raises(DataError, match="holds a character that Vespa refuses"):
            operation_of(Document(bad, "", ""), app)


@pytest.mark.parametrize(
    ("doc_id", "message"),
    [
        ("", "a document has an empty id"),
        (".", "the document id '.' cannot be part of a URL"),
        ("..", "the document id '..' cannot be part of a URL"),
        ("x" * 70000, "a document id of 70015 characters is too long for Vespa"),
    ],
)
def test_impossible_ids(app: App, doc_id: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        operation_of(Document(doc_id, "", ""), app)


def test_operations_of_many_batches_are_those_of_single_documents(app: App) -> None:
    documents = corpus(300)
    alone = [operation_of(document, app) for document in documents]
    assert list(operations(iter(documents), app)) == alone


def test_operations_read_no_further_than_a_batch(app: App) -> None:
    read = 0

    def source() -> Iterator[Document]:
        nonlocal read
        for document in corpus(10_000):
            read += 1
            yield document

    next(operations(source(), app))
    assert read <= 128


def test_write_operations(app: App, tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    documents = [*corpus(200), Document("ü \n☃", "line\nbreak", '"quoted" \u2028')]
    assert write_operations(documents, app, path) == 201
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == list(operations(documents, app))
    assert os.listdir(tmp_path) == ["feed.jsonl"]


def test_a_file_of_operations_is_whole_or_absent(app: App, tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_text("old")
    with pytest.raises(DataError, match="empty id"):
        write_operations([*corpus(5), Document("", "", "")], app, path)
    with pytest.raises(KeyboardInterrupt):
        write_operations(interrupted(corpus(5)), app, path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["feed.jsonl"]
    with pytest.raises(ArtifactError, match="cannot write .*nowhere.*: No such file"):
        write_operations(corpus(5), app, tmp_path / "nowhere" / "feed.jsonl")


def interrupted(documents: Iterable[Document]) -> Iterator[Document]:
    yield from documents
    raise KeyboardInterrupt


# All goes well


def test_a_feed(app: App) -> None:
    store, documents = Store(), corpus(300)
    seen: list[tuple[int, int | None, float]] = []
    with scripted(store) as server:
        report = feed(
            iter(documents), app, server.url, total=300, on_progress=lambda *now: seen.append(now)
        )
        check_account(report, documents, store)
        assert report.complete and report.retried == report.sanitized == report.duplicates == 0
        report.require_complete()
        expected = {o["fields"]["doc_id"]: o["fields"] for o in operations(documents, app)}
        assert store.kept == expected
        assert all(request.headers["content-type"] == "application/json"
                   for request in server.requests[1:])  # fmt: skip
    assert seen[-1][:2] == (300, 300) and seen[-1][2] > 0
    assert [done for done, *_ in seen] == sorted(done for done, *_ in seen)
    assert report.summary().startswith("300 of 300 documents acknowledged in ")
    assert report.documents_per_s == pytest.approx(300 / report.seconds)
    assert report.to_dict()["failed"] == () and "documents_per_s" in report.to_dict()


def test_no_documents(app: App) -> None:
    with scripted(Store()) as server:
        report = feed([], app, server.url)
    assert (report.read, report.ok, report.complete) == (0, 0, True)


IDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=30).filter(
    lambda text: text not in (".", "..")
)


@given(st.lists(IDS, min_size=1, max_size=30, unique=True))
@settings(max_examples=15, deadline=None)
def test_any_legal_id_arrives_as_it_is(
    module_server: tuple[ScriptedServer, App], ids: list[str]
) -> None:
    server, app = module_server
    store = Store()
    server.script = store
    report = feed([Document(doc_id, "red", "") for doc_id in ids], app, server.url, connections=4)
    assert report.complete, report
    assert set(store.kept) == set(ids)
    assert all(doc_id == fields["doc_id"] for doc_id, fields in store.kept.items())


@pytest.fixture(scope="module")
def module_server(app: App) -> Iterator[tuple[ScriptedServer, App]]:
    with scripted(Store()) as server:
        yield server, app


def test_no_more_requests_at_once_than_connections(app: App) -> None:
    def slow(doc_id: str, attempt: int) -> Reply:
        return Reply(200, delay=0.01)

    with scripted(Store(slow)) as server:
        assert feed(corpus(60), app, server.url, connections=5).complete
        assert 2 <= server.busiest <= 5


def test_the_source_is_read_only_a_little_ahead(app: App) -> None:
    """So memory does not grow with the corpus."""
    most, done, read = 0, 0, 0

    def count(now: int, total: int | None, rate: float) -> None:
        nonlocal done
        done = now

    def source() -> Iterator[Document]:
        nonlocal read, most
        for document in corpus(1500):
            read += 1
            most = max(most, read - done)
            yield document

    def slow(doc_id: str, attempt: int) -> Reply:
        return Reply(200, delay=0.002)

    with scripted(Store(slow)) as server:
        assert feed(source(), app, server.url, connections=4, on_progress=count).complete
    assert most < 600  # a batch of 128, 16 waiting, and what a tick of progress is late


def test_duplicates_are_counted_and_the_last_one_stays(app: App) -> None:
    def first_is_slow(doc_id: str, attempt: int) -> Reply | None:
        return Reply(503) if doc_id == "same" and attempt == 1 else None

    documents = [Document("same", f"version {n}", "") for n in range(20)] + corpus(30)
    store = Store(first_is_slow)
    with scripted(store) as server:
        report = feed(documents, app, server.url, connections=8)
    check_account(report, documents, store)
    assert report.complete and (report.duplicates, report.retried) == (19, 1)
    assert [title for title in store.order if title.startswith("version")] == [
        f"version {n}" for n in range(20)
    ]
    assert "19 with an id seen before (the last one stays)" in report.summary()


def test_sanitized_documents_are_counted(app: App) -> None:
    documents = [Document("a", "red\x00", ""), Document("b", "", "x\x0c"), *corpus(3)]
    store = Store()
    with scripted(store) as server:
        report = feed(documents, app, server.url)
    assert report.complete and report.sanitized == 2
    assert store.kept["a"]["title"] == "red "
    assert "2 sanitized (characters that Vespa refuses)" in report.summary()


# What may be retried is, and nothing else


@pytest.mark.parametrize(
    "reply",
    [Reply(429), Reply(503), Reply(504), DROP, Reply(200, b"x" * 64, cut=True)],
    ids=["429", "503", "504", "dropped", "cut"],
)
def test_transient_failures_are_retried(app: App, reply: Reply) -> None:
    def twice(doc_id: str, attempt: int) -> Reply | None:
        return reply if doc_id in ("d3", "d7") and attempt <= 2 else None

    store, documents = Store(twice), corpus(40)
    with scripted(store) as server:
        report = feed(documents, app, server.url, connections=8)
    check_account(report, documents, store)
    assert report.complete and report.retried == 2
    # libcurl sends a request once more by itself when a kept connection turns out to be closed.
    assert store.attempts["d3"] >= 3 and store.attempts["d1"] == 1


def test_a_response_that_is_late_is_asked_for_again(app: App) -> None:
    def late(doc_id: str, attempt: int) -> Reply | None:
        return Reply(200, delay=0.6) if doc_id == "d2" and attempt == 1 else None

    store = Store(late)
    with scripted(store) as server:
        report = feed(corpus(5), app, server.url, timeout_s=0.2)
    assert report.complete and report.retried == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_permanent_failures_are_not_retried(app: App, status: int) -> None:
    message = "Field 'x' is not defined in document doc"

    def refuse(doc_id: str, attempt: int) -> Reply | None:
        return Reply(status, {"message": message}) if doc_id in ("d3", "d30") else None

    store, documents = Store(refuse), corpus(40)
    with scripted(store) as server:
        report = feed(documents, app, server.url, connections=4, retry_s=2)
    check_account(report, documents, store)
    assert sorted(report.failed, key=str) == [
        Failure("d3", status, message),
        Failure("d30", status, message),
    ]
    assert report.ok == 38 and report.stopped is None and report.retried == 0
    assert max(store.attempts.values()) == 1
    with pytest.raises(FeedError) as caught:
        report.require_complete()
    assert f"'d3' (HTTP {status}: {message})" in str(caught.value)
    assert "38 of 40 documents acknowledged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_server_stops_the_feed(app: App) -> None:
    def full(doc_id: str, attempt: int) -> Reply | None:
        return Reply(507, {"message": "disk on node 0 is full"}) if doc_id == "d50" else None

    store, documents = Store(full), corpus(2000)
    with scripted(store) as server:
        report = feed(documents, app, server.url, connections=4)
    check_account(report, documents[: report.read], store)
    assert report.stopped == (
        "the server is full (HTTP 507: disk on node 0 is full); make room there"
    )
    assert 51 <= report.read < 400 and store.attempts["d50"] == 1
    unsent = [failure for failure in report.failed if failure.status is None]
    assert unsent and all(f.message == "not sent: feeding stopped" for f in unsent)
    assert not {failure.document for failure in unsent} & set(store.attempts)
    # How many were read ahead, and so left unsent, depends on the machine.
    with pytest.raises(FeedError, match=r"stopped: the server is full .*feeding the same"):
        report.require_complete()


def test_a_server_that_accepts_nothing_stops_the_feed(app: App) -> None:
    def gone(doc_id: str, attempt: int) -> Reply | None:
        return Reply(503, {"message": "starting"}) if int(doc_id[1:]) >= 20 else None

    store, documents = Store(gone), corpus(1000)
    with scripted(store) as server:
        start = time.monotonic()
        report = feed(documents, app, server.url, connections=4, retry_s=0.5)
        assert time.monotonic() - start < 5
        url = server.url
    check_account(report, documents[: report.read], store)
    assert report.stopped == f"{url} accepted nothing for 0.5 s (last: HTTP 503: starting)"
    assert report.ok == 20 and report.read < 400


def test_a_server_that_goes_away_stops_the_feed(app: App) -> None:
    documents, store = corpus(600), Store()

    def script(request: Request) -> Reply:
        if len(store.kept) >= 50:
            threading.Thread(target=stop_once).start()
            return DROP
        return store(request)

    lock, stopped = threading.Lock(), []

    def stop_once() -> None:
        with lock:
            if not stopped:
                stopped.append(True)
                server.stop()

    server = ScriptedServer(script)
    server.start()
    try:
        report = feed(documents, app, server.url, connections=4, retry_s=0.5)
    finally:
        stop_once()
    check_account(report, documents[: report.read], store)
    assert report.stopped is not None and "accepted nothing for 0.5 s (last: no answer: " in (
        report.stopped
    )
    assert report.ok == len(store.kept) and 0 < report.ok < 100


def test_one_failing_document_does_not_delay_the_others(app: App) -> None:
    def poor(doc_id: str, attempt: int) -> Reply | None:
        late = Reply(504, {"message": "Timeout after 1ms"})
        return late if doc_id == "d5" else Reply(200, delay=0.008)

    store, documents = Store(poor), corpus(300)
    with scripted(store) as server:
        report = feed(documents, app, server.url, connections=4, retry_s=0.4)
    check_account(report, documents, store)
    assert report.ok == 299 and report.stopped is None
    assert report.failed == (Failure("d5", 504, "Timeout after 1ms"),)
    assert store.attempts["d5"] >= 3 and report.retried == 1


def test_too_many_failures_stop_the_feed(app: App) -> None:
    def refuse(doc_id: str, attempt: int) -> Reply | None:
        return Reply(400, {"message": "Unknown field"})

    store, documents = Store(refuse), corpus(3000)
    with scripted(store) as server:
        report = feed(documents, app, server.url, connections=4, max_failures=20)
    check_account(report, documents[: report.read], store)
    assert report.ok == 0 and report.stopped == "20 documents failed"
    assert 20 <= len(store.attempts) <= 24 and report.read < 300


def test_retry_after_is_honoured(app: App) -> None:
    def wait(doc_id: str, attempt: int) -> Reply | None:
        return Reply(429, headers={"Retry-After": "1"}) if attempt == 1 else None

    store = Store(wait)
    with scripted(store) as server:
        assert feed(corpus(1), app, server.url).complete
    first, second = store.times["d0"]
    assert 1.0 <= second - first < 2.0


def test_a_wait_beyond_the_budget_is_not_begun(app: App) -> None:
    def wait(doc_id: str, attempt: int) -> Reply | None:
        return Reply(429, {"message": "later"}, headers={"Retry-After": "3600"})

    with scripted(Store(wait)) as server:
        start = time.monotonic()
        report = feed(corpus(1), app, server.url, retry_s=5)
    assert time.monotonic() - start < 3
    assert report.failed == (Failure("d0", 429, "later"),)
    assert "asks to come back in 3600 s, which is more than the 5 s" in str(report.stopped)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("3", 3, 3),
        ("0.5", 0, 0.5),
        ("-4", 0, 0),
        ("nan", 0, 0),
        ("inf", 0, 0),
        ("soon", 0, 0),
        ("", 0, 0),
        (email.utils.formatdate(0, usegmt=True), 0, 0),
        # A name of its own: workers that collect in different seconds must agree on it.
        pytest.param(
            email.utils.formatdate(time.time() + 500, usegmt=True), 300, 501, id="in 500 s"
        ),
    ],
)
def test_retry_after_headers(header: str, low: float, high: float) -> None:
    def busy(request: Request) -> Reply:
        return Reply(429, headers={"Retry-After": header})

    with scripted(busy) as server, Http(Endpoint.of(server.url)) as http:
        assert low <= http.get("/").retry_after_s <= high


def test_pauses_grow_are_jittered_and_bounded() -> None:
    for attempt in range(1, 40):
        longest = min(10.0, 0.05 * 2 ** (attempt - 1))
        several = [pause(attempt) for _ in range(30)]
        assert all(longest / 2 <= wait <= longest for wait in several)
        assert len(set(several)) > 1
    assert pause(1, retry_after_s=7) == 7


def test_the_window_halves_once_for_each_wave_of_refusals() -> None:
    window = Window(64)
    assert window.limit == 8
    tickets = [window.enter() for _ in range(8)]
    for ticket in tickets:
        window.leave(ticket, ok=False, overload=True)
    assert window.limit == 4
    for _ in range(1000):
        window.leave(window.enter(), ok=True, overload=False)
    assert 30 < window.limit <= 64  # one more for each window: n acks from 4 to about sqrt(2 n)
    for _ in range(20):
        window.leave(window.enter(), ok=False, overload=True)
    assert window.limit == 1
    for _ in range(10_000):
        window.leave(window.enter(), ok=True, overload=False)
    assert window.limit == 64


def test_a_window_holds_back() -> None:
    window, entered = Window(1), threading.Event()
    ticket = window.enter()

    def second() -> None:
        window.leave(window.enter(), ok=True, overload=False)
        entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not entered.wait(0.05)
    window.leave(ticket, ok=True, overload=False)
    assert entered.wait(5)
    thread.join()


def test_an_overloaded_server_gets_fewer_requests_at_once(app: App) -> None:
    """It takes three at a time; about 85 refusals with the window, 260 without."""
    here, lock = 0, threading.Lock()

    def script(request: Request) -> Reply:
        nonlocal here
        with lock:
            here += 1
            crowded = here > 3
        try:
            time.sleep(0.002)
            return Reply(429, {"message": "Rejecting execution due to overload"}) if (
                crowded and request.path.startswith("/document")
            ) else store(request)  # fmt: skip
        finally:
            with lock:
                here -= 1

    store, documents = Store(), corpus(400)
    with scripted(script) as server:
        report = feed(documents, app, server.url, connections=32)
        refused = len(server.requests) - 1 - 400
    check_account(report, documents, store)
    assert report.complete and 0 < report.retried <= refused < 170


# Any faults, in any order

FAULTS = {
    "429": Reply(429, {"message": "busy"}),
    "503": Reply(503, {"message": "down"}),
    "504": Reply(504, {"message": "late"}),
    "drop": DROP,
    "cut": Reply(200, b"y" * 50, cut=True),
    "400": Reply(400, {"message": "bad"}),
    "500": Reply(500, {"message": "broken"}),
    "html": Reply(502, b"<html>\n<body>gateway</body></html>"),
}
PASSING = {"429", "html", "503", "504", "drop", "cut"}
PLANS = st.lists(st.lists(st.sampled_from(sorted(FAULTS)), max_size=3), min_size=1, max_size=40)


@given(plans=PLANS, connections=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_the_account_is_exact_regardless_of_failures(
    module_server: tuple[ScriptedServer, App], plans: list[list[str]], connections: int
) -> None:
    server, app = module_server

    def fault(doc_id: str, attempt: int) -> Reply | None:
        plan = plans[int(doc_id[1:])]
        return FAULTS[plan[attempt - 1]] if attempt <= len(plan) else None

    store = Store(fault)
    server.script = store
    documents = corpus(len(plans))
    report = feed(documents, app, server.url, connections=connections)
    check_account(report, documents, store)
    # The truth, by hand: the first fault that does not pass decides.  A dropped connection may
    # make libcurl use up a step of the plan by itself, so those plans are judged by the sum only.
    for document, plan in zip(documents, plans, strict=True):
        if "drop" in plan:
            continue
        lasting = [fault for fault in plan if fault not in PASSING]
        statuses = [f.status for f in report.failed if f.document == document.doc_id]
        assert statuses == [FAULTS[fault].status for fault in lasting[:1]]
    if not any("drop" in plan for plan in plans):
        assert report.retried == sum(bool(plan) and plan[0] in PASSING for plan in plans)


# The source, the user and the other side


def test_documents_without_a_usable_id_are_accounted_for(app: App) -> None:
    documents = [*corpus(5), Document("", "red", ""), Document("a\x00", "red", ""), *corpus(3)]
    store = Store()
    with scripted(store) as server:
        report = feed(documents, app, server.url)
    assert (report.read, report.ok, len(report.failed)) == (10, 8, 2)
    assert [failure.document for failure in report.failed] == ["", "a\x00"]
    assert "a document has an empty id" in report.failed[0].message


def test_a_source_that_breaks_ends_with_an_account(app: App) -> None:
    def source() -> Iterator[Document]:
        yield from corpus(200)
        raise DataError("corpus.jsonl, line 201: expected an object, got 7")

    store = Store()
    with scripted(store) as server:
        report = feed(source(), app, server.url)
    # What the tokenizer had not had yet, less than a batch, was never counted as read.
    assert report.read == report.ok == len(store.kept) >= 128
    assert report.stopped is not None and not report.complete
    with pytest.raises(
        FeedError, match="rest of the source cannot be read: corpus.jsonl, line 201: expec"
    ):
        report.require_complete()


def test_a_bug_of_the_program_is_not_hidden(app: App) -> None:
    def broken(done: int, total: int | None, rate: float) -> None:
        raise ZeroDivisionError

    # Which threads, not how many: one that an earlier test left may end meanwhile.
    before = set(threading.enumerate())
    with scripted(Store()) as server:
        with pytest.raises(ZeroDivisionError):
            feed(corpus(300), app, server.url, on_progress=broken)
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == set()


@pytest.mark.parametrize("after", [0.0, 0.15, 0.4])
def test_ctrl_c_leaves_an_exact_account(app: App, after: float) -> None:
    def slow(doc_id: str, attempt: int) -> Reply | None:
        return Reply(200, delay=0.01) if int(doc_id[1:]) % 5 else Reply(503)

    def press() -> None:
        started.wait(10)
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGINT)

    started = threading.Event()
    store, documents = Store(), corpus(5000)
    store.fault = lambda doc_id, attempt: (started.set(), slow(doc_id, attempt))[1]
    presser = threading.Thread(target=press)
    presser.start()
    with scripted(store) as server:
        report = feed(iter(documents), app, server.url, connections=4)
    presser.join()
    assert report.stopped == "interrupted" and not report.complete
    assert report.read == report.ok + len(report.failed) < 5000
    failed = {failure.document for failure in report.failed}
    assert {d.doc_id for d in documents[: report.read]} - failed <= set(store.attempts)
    with pytest.raises(FeedError, match="stopped: interrupted.*feeding the same documents again"):
        report.require_complete()


def test_ctrl_c_in_the_source_leaves_an_exact_account(app: App) -> None:
    store = Store()
    with scripted(store) as server:
        report = feed(interrupted(corpus(300)), app, server.url)
    assert report.stopped == "interrupted"
    assert report.read == report.ok + len(report.failed) == 256


def test_ctrl_c_between_reading_a_document_and_queueing_it(app: App) -> None:
    pressed: list[int] = []

    def press(done: int, total: int | None, rate: float) -> None:
        if done >= 3 and not pressed:
            pressed.append(done)
            raise KeyboardInterrupt

    def slow(doc_id: str, attempt: int) -> Reply | None:
        return Reply(200, delay=0.15)

    store, documents = Store(slow), corpus(100)
    with scripted(store) as server:
        report = feed(documents, app, server.url, connections=1, on_progress=press)
    check_account(report, documents[: report.read], store)
    assert pressed and report.stopped == "interrupted"
    assert report.failed[-1] == Failure(
        documents[report.read - 1].doc_id, None, "not sent: feeding stopped"
    )


def test_feeding_again_completes_an_interrupted_feed(app: App) -> None:
    store, documents = Store(), corpus(300)
    with scripted(store) as server:
        assert not feed(interrupted(documents), app, server.url).complete
        assert feed(documents, app, server.url).complete
    assert set(store.kept) == {document.doc_id for document in documents}


def test_nothing_there(app: App) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(EndpointError, match="nothing answers at .*connection refused"):
            feed(never(), app, f"http://127.0.0.1:{probe.getsockname()[1]}")


def never() -> Iterator[Document]:
    raise AssertionError("the source must not be read")
    yield


def test_an_engine_of_another_contract_gets_no_document(app: App, tmp_path: Path) -> None:
    other = App.open(make_app(tmp_path / "other", query_slots=16, document_slots=48))

    def script(request: Request) -> Reply:
        assert request.path == "/ranker/v1/manifest"
        return Reply(200, other.manifest.to_dict())

    with scripted(script) as server:
        with pytest.raises(SpecMismatch) as caught:
            feed(never(), app, server.url)
        assert len(server.requests) == 1
    for name in (app.manifest.spec.fingerprint, other.manifest.spec.fingerprint, "48", server.url):
        assert name in str(caught.value)


def test_an_engine_of_the_same_contract(app: App) -> None:
    def script(request: Request) -> Reply:
        if request.path == "/ranker/v1/manifest":
            return Reply(200, app.manifest.to_dict())
        return store(request)

    store = Store()
    with scripted(script) as server:
        assert feed(corpus(3), app, server.url).complete


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_server_that_refuses_access(app: App, status: int) -> None:
    with scripted(lambda request: Reply(status, b"Forbidden\n")) as server:
        with pytest.raises(ResponseError, match=f"does not take documents: HTTP {status}, 'Forbid"):
            feed(never(), app, server.url)


def test_impossible_options(app: App, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="connections must be 1 or more, got 0"):
        feed([], app, "http://localhost:1", connections=0)
    with pytest.raises(UsageError, match="expected a URL such as http://localhost:8080, got 'x'"):
        feed([], app, "x")


def test_an_engine_that_is_killed_and_comes_back_loses_nothing(app: App, tmp_path: Path) -> None:
    folder, data = make_app(tmp_path / "app"), tmp_path / "data"
    engine = EngineProcess(folder, data)
    documents, killed = corpus(1000), []

    def source() -> Iterator[Document]:
        """Whose 800th document comes when the engine has gone in the middle of its work."""
        yield from documents[:800]
        engine.stop(signal.SIGKILL)
        killed.append(EngineProcess(folder, data, port=int(engine.url.rsplit(":", 1)[1])))
        yield from documents[800:]

    try:
        engine.wait()
        report = feed(source(), app, engine.url)
        assert report.complete, report.summary()
        assert report.retried > 0 and report.ok == 1000
        with Client(engine.url, app) as client:
            text = " ".join(WORDS)
            assert client.search(text, profile="cross", hits=1).total_count == 1000
    finally:
        engine.stop(signal.SIGKILL)
        for other in killed:
            other.stop(signal.SIGKILL)


# HTTP/2 over TLS with a client certificate, as Vespa Cloud wants it

TLS_APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    with open("seen", "a") as seen:
        seen.write(scope["method"] + " HTTP/" + scope["http_version"] + chr(10))
    status = 200 if scope["method"] == "POST" else 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})
"""


def test_http2_over_tls_with_a_client_certificate(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("granian")
    certificates(tmp_path)
    (tmp_path / "tls_app.py").write_text(TLS_APP)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    port = free_port()
    command = f"-m granian --interface asgi --host 127.0.0.1 --port {port} --log-level error "
    command += "--ssl-certificate server.pem --ssl-keyfile server.key --ssl-ca ca.pem "
    server = subprocess.Popen(
        [sys.executable, *command.split(), "--ssl-client-verify", "tls_app:app"], cwd=tmp_path
    )
    try:
        wait_for_port(port)
        pem = {"cert": tmp_path / "client.pem", "key": tmp_path / "client.key"}
        report = feed(corpus(20), app, f"https://127.0.0.1:{port}", **pem)
        assert report.complete and report.ok == 20
        assert Counter((tmp_path / "seen").read_text().split("\n")[:-1]) == {
            "GET HTTP/2": 1,
            "POST HTTP/2": 20,
        }
        with pytest.raises(EndpointError, match="TLS with .* failed|broke the connection"):
            feed(corpus(20), app, f"https://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(10)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.03)
    raise AssertionError(f"nothing listens at port {port}")


def test_documents_for_this_machine_bypass_a_proxy(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with scripted(lambda request: Reply(502, {"message": "the proxy"})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        with scripted(store) as server:
            assert feed(corpus(3), app, server.url).complete
    assert "NO_PROXY" not in os.environ and not proxy.requests
