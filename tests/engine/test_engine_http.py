"""The engine as a process: its HTTP API, kills, a full disk.

Vespa's own clients are tested in `tests/vespa`.
"""

import asyncio
import contextlib
import gzip
import json
import resource
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from clients_support import vespa_of
from engine_support import EngineProcess, free_port, make_app, put_fields, running_engine
from front_door import Case, ask

from ranker.artifacts.manifest import Manifest
from ranker.engine.http.app import Application
from ranker.engine.http.empty import empty
from ranker.engine.http.status import PAGES, Page
from ranker.engine.server import check_port
from ranker.errors import EndpointError, UsageError
from ranker.package.application import Package
from ranker.records import Document

PATH = "/document/v1/ranker/doc/docid/"
DOCUMENTS = [
    Document(f"d{n}", f"red fox {n}", "the quick fox jumps " * (n % 5)) for n in range(300)
]


@pytest.fixture(scope="module")
def client(url):
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def fed(url, client, encoder):
    """Feed `DOCUMENTS` to the engine with pyvespa's synchronous client."""
    failed = []

    def note(response, name):
        if not response.is_successful():
            failed.append((name, response.json))

    vespa = vespa_of(url)
    batch = [{"id": d.doc_id, "fields": put_fields(d, encoder)} for d in DOCUMENTS]
    vespa.feed_iterable(batch, schema="doc", namespace="ranker", callback=note)
    assert failed == []
    return vespa


def total(client, yql="select * from doc where true", **parameters):
    answer = client.get("/search/", params={"yql": yql, "hits": 0, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()["root"]["fields"]["totalCount"]


def test_conditions_over_http(fed, client):
    path = f"{PATH}d5"
    refused = client.put(
        path,
        params={"condition": 'doc.title == "x"'},
        json={"fields": {"title": {"assign": "red fox 5"}}},
    )
    assert refused.status_code == 412
    assert refused.json()["message"].startswith(
        "document id:ranker:doc::d5: the condition does not hold"
    )
    fine = client.put(
        path,
        params={"condition": 'doc.title == "red fox 5"'},
        json={"fields": {"title": {"assign": "red fox 5"}}},
    )
    assert fine.status_code == 200
    assert client.delete(path, params={"condition": "doc.title == 'x'"}).status_code == 412
    assert client.post(
        f"{PATH}new", json={"fields": {}, "condition": "true", "create": True}
    ).json() == {"pathId": f"{PATH}new", "id": "id:ranker:doc::new"}
    assert client.get(f"{PATH}new").json()["fields"] == {}
    client.delete(f"{PATH}new")
    bad = client.put(path, params={"condition": "doc.title =="}, json={"fields": {}})
    assert bad.status_code == 400 and "not understood from" in bad.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", PATH + "1", b"{}", 400, 'JSON object with an object "fields", got {}'),
        ("POST", PATH + "1", b"", 400, "expected a JSON object as the body: Expecting value: line"),
        ("POST", PATH + "1", b"[]", 400, 'JSON object with an object "fields", got []'),
        ("POST", PATH + "1", b'{"fields":', 400, "expected a JSON object as the body: Expecting"),
        ("POST", PATH + "1", b'{"fields":{"title":NaN}}', 400, "NaN is not a JSON value"),
        ("POST", PATH + "1", b'{"fields":{"title":"\xff"}}', 400, "'utf-8' codec can't decode"),
        ("POST", PATH + "1", b'{"fields":{"title":"a\x01"}}', 400, "Invalid control character at"),
        ("POST", PATH + "1", b'{"fields":[]}', 400, 'object with an object "fields", got {'),
        ("POST", PATH + "1", b'{"fields":{"nosuch":1}}', 400, "doc has no field 'nosuch'"),
        ("POST", PATH + "1", b'{"fields":{},"condition":5}', 400, "string for 'condition', got 5"),
        ("POST", PATH + "1", b'{"fields":{},"create":"x"}', 400, "or false for 'create', got 'x'"),
        ("POST", PATH + "1?create=maybe", b'{"fields":{}}', 400, "true or false, got 'maybe'"),
        ("POST", PATH + "1?timeout=abc", b'{"fields":{}}', 400, "like 5, 5s or 300ms, got 'abc'"),
        ("POST", PATH + "1?route=", b'{"fields":{}}', 400, "expected a value, got an empty one"),
        ("POST", PATH + "a%01b", b'{"fields":{}}', 400, "has an illegal character 0x1"),
        ("POST", PATH, b'{"fields":{}}', 400, "copying is not supported by the embedded engine,"),
        ("DELETE", PATH, b"", 400, "expected the parameter 'selection' at"),
        ("PUT", PATH + "1", b'{"fields":{"title":"x"}}', 400, "expected an object like {"),
        ("PUT", PATH + "1", b'{"fields":{"x":{"assign":1}}}', 400, "field 'x': expected one of"),
        ("PUT", PATH + "1", b'{"fields":{"title":{"bogus":1}}}', 400, "string has no 'bogus';"),
        ("PUT", PATH + "1", b'{"fields":{"title":{"add":1}}}', 500, "string has no 'add';"),
        ("GET", "/document/v1/ns/nosuch/docid/1", b"", 400, "the document type doc, got 'nosuch'"),
        ("GET", "/document/v1/ns", b"", 404, "nothing at '/document/v1/ns'; expected"),
        ("GET", "/document/v1/ns/doc/bogus/1", b"", 404, "nothing at"),
        ("GET", "/document/v1/ns/doc/number/a/x", b"", 400, "expected a whole number, got 'a'"),
        ("GET", "/document/v1/", b"", 400, "expected the parameter 'cluster' at '/document/v1/'"),
        ("GET", "/document/v1/?cluster=*", b"", 400, "no content cluster '*', only 'content'"),
        ("GET", PATH + "?wantedDocumentCount=0", b"", 400, "expected at least 1, got 0"),
        ("GET", PATH + "?wantedDocumentCount=x", b"", 400, "expected a whole number, got 'x'"),
        ("GET", PATH + "?slices=2", b"", 400, "expected both of 'slices' and 'sliceId', or"),
        ("GET", PATH + "?slices=2&sliceId=2", b"", 400, "'sliceId': expected 0 to 1, got 2"),
        ("GET", PATH + "?continuation=zz", b"", 400, "expected a token of this engine, got 'zz'"),
        ("GET", PATH + "?selection=doc.x%3D%3D", b"", 400, "not understood from"),
        ("GET", PATH + "?fieldSet=doc:nosuch", b"", 400, "token_fingerprint, got 'nosuch'"),
        ("GET", PATH + "?fromTimestamp=5", b"", 400, "'fromTimestamp' is not supported"),
        ("PATCH", PATH + "1", b"{}", 405, "DELETE at '/document/v1/ranker/doc/docid/1', got PATCH"),
    ],
)
def test_the_front_door_for_documents(client, method, path, body, status, message):
    answer = client.request(method, path, content=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["pathId", "message"]
    assert message in answer.json()["message"]
    assert answer.json()["pathId"] == path.partition("?")[0]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (PATH + "%ff", 400),
        (PATH + "%zz", 400),
        (PATH + "a%00", 400),
        (PATH + "[a]", 400),
        (PATH + "1?create=%ff", 400),
        ("/search/?query=a|b", 400),
        ("/%73earch/?query=a", 404),
        ("/search/../nothing", 404),
        ("//search//?query=fox", 200),
        ("/state/./v1/nothing/../health", 200),
    ],
)
def test_the_request_line(url, target, status):
    assert ask(url, Case("", "GET", target)).status == status


def test_an_unknown_method(url):
    assert ask(url, Case("", "FOO", "/search/?query=fox")).status == 405


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ({"method": "GET", "params": {"query": "fox"}}, 200, None),
        ({"method": "PUT", "params": {"query": "fox"}}, 200, None),
        ({"method": "POST", "data": {"query": "fox"}}, 200, None),
        (
            {"method": "POST", "json": {"query": "fox", "hits": 500}, "params": {"hits": 1}},
            200,
            None,
        ),
        ({"method": "POST", "content": b'{"query":"fox"}'}, 400, 3),  # no JSON content type
        ({"method": "POST", "json": {"query": "fox", "hits": "x"}}, 400, 3),
        ({"method": "POST", "json": ["query"]}, 400, 3),
        ({"method": "GET", "params": {"query": "fox", "timeout": "0"}}, 504, 12),
        ({"method": "GET", "params": {"query": "fox", "ranking": "nosuch"}}, 400, 4),
        ({"method": "GET", "params": {"yql": "select * from doc where true limit -1"}}, 400, 17),
        ({"method": "GET", "params": {"query": "fox", "ranking": "cross"}}, 400, 4),
    ],
)
def test_the_front_door_for_queries(fed, client, arguments, status, code):
    answer = client.request(url="/search/", **arguments)
    assert answer.status_code == status, answer.text
    errors = answer.json()["root"].get("errors", [{}])
    assert errors[0].get("code") == code
    if code is not None:
        assert {"code", "summary", "message"} <= set(errors[0])
        assert "children" not in answer.json()["root"]


def test_packed_bodies(fed, client):
    body = json.dumps({"query": "fox", "hits": 1}).encode()
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    fine = client.post("/search/", content=gzip.compress(body), headers=headers)
    assert fine.status_code == 200 and len(fine.json()["root"]["children"]) == 1
    for broken in (gzip.compress(body)[:-12], b"junk", b""):
        answer = client.post("/search/", content=broken, headers=headers)
        assert answer.status_code == 400 and "invalid gzip body" in answer.text
        answer = client.post(f"{PATH}1", content=broken, headers=headers)
        assert answer.status_code == 400 and "invalid gzip body" in answer.json()["message"]
    other = {**headers, "Content-Encoding": "br"}
    assert client.post("/search/", content=body, headers=other).status_code == 400
    bomb = gzip.compress(bytes(101 * 2**20))
    answer = client.post(f"{PATH}1", content=bomb, headers=headers)
    assert answer.status_code == 413 and "expected a body of at most" in answer.json()["message"]


def test_a_body_that_is_cut_off_changes_nothing(url, client):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(
            f"POST {PATH}cut HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n".encode()
            + b'{"fields":{"title":"half"}}'
        )
    time.sleep(0.1)
    assert client.get(f"{PATH}cut").status_code == 404
    assert client.get("/state/v1/health").status_code == 200


def test_http2_with_prior_knowledge(fed, url):
    with httpx.Client(base_url=url, http1=False, http2=True) as client:
        answer = client.get("/search/", params={"query": "fox"})
        assert answer.http_version == "HTTP/2" and answer.status_code == 200


def test_pages_that_clients_ask_for(client, package, encoder):
    assert client.get("/state/v1/health").json()["status"] == {"code": "up"}
    assert client.get("/state/v1/version").json()["version"].startswith("8.")
    names = [v["name"] for v in client.get("/state/v1/metrics").json()["metrics"]["values"]]
    assert "ranker.documents" in names
    assert client.get("/metrics/v2/values").json()["nodes"][0]["services"]
    assert len(client.get("/state/v1/").json()["resources"]) == 3
    assert client.get("/status.html").text.strip() == "<title>OK</title>"
    for path in ("/", "/ApplicationStatus"):
        handlers = client.get(path).json()["handlers"]
        assert any(h["class"].endswith("DocumentV1ApiHandler") for h in handlers)
    manifest = Manifest.from_dict(client.get("/ranker/v1/manifest").json())
    assert manifest.spec == encoder.spec
    tokenizer = client.get("/ranker/v1/tokenizer").text
    assert tokenizer == (package / "files" / "tokenizer.json").read_text()
    missing = client.get("/nosuch")
    assert missing.status_code == 404 and "answers at /search/" in missing.text
    assert client.options(f"{PATH}1").headers["allow"] == "GET,POST,PUT,DELETE"


def test_a_new_page_is_a_row_of_the_table(package, monkeypatch):
    page = Page(lambda subject, request: {"generation": subject.generation}, "application")
    monkeypatch.setitem(PAGES, "/ranker/v1/new", page)

    async def get(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            return await client.get("/ranker/v1/new")

    served = asyncio.run(get(Application(Package.open(package), None, None, None, generation=7)))
    assert (served.status_code, served.json()) == (200, {"generation": 7})
    assert asyncio.run(get(empty(None))).status_code == 503


def test_document_reads(fed, client):
    document = client.get(f"{PATH}d3", params={"fieldSet": "doc:title,doc_id"}).json()
    assert document["fields"] == {"doc_id": "d3", "title": "red fox 3"}
    assert client.get(f"{PATH}d3", params={"fieldSet": "[id]"}).json()["fields"] == {}
    missing = client.get(f"{PATH}nosuch")
    assert missing.status_code == 404
    assert missing.json() == {"pathId": f"{PATH}nosuch", "id": "id:ranker:doc::nosuch"}
    assert client.delete(f"{PATH}nosuch").status_code == 200
    dry = client.post(f"{PATH}dry", params={"dryRun": "true"}, content=b"not json")
    assert dry.status_code == 200 and client.get(f"{PATH}dry").status_code == 404


def test_locations(client):
    for kind, prefix in (("number/5", "n=5"), ("group/g%201", "g=g 1")):
        path = f"/document/v1/ranker/doc/{kind}/x"
        assert client.post(path, json={"fields": {"title": "x"}}).json()["id"] == (
            f"id:ranker:doc:{prefix}:x"
        )
        page = client.get(f"/document/v1/ranker/doc/{kind}/").json()
        assert [d["id"] for d in page["documents"]] == [f"id:ranker:doc:{prefix}:x"]
        assert "continuation" not in page
        client.delete(path)


def test_an_answer_while_documents_are_written(fed, client, encoder):
    """A query sees what was acknowledged before it, each time."""
    for n in range(5):
        fields = put_fields(Document(f"seen{n}", "pear", ""), encoder)
        assert client.post(f"{PATH}seen{n}", json={"fields": fields}).status_code == 200
        assert total(client, "select * from doc where title contains 'pear'") == n + 1
    for n in range(5):
        assert client.delete(f"{PATH}seen{n}").status_code == 200
        assert total(client, "select * from doc where title contains 'pear'") == 4 - n


async def feed_until(url, encoder, names, stop):
    """Put documents over many streams at once; return the acknowledged names and the refusals."""
    acknowledged = []

    async with httpx.AsyncClient(base_url=url, http1=False, http2=True, timeout=10) as client:

        async def put_some(part):
            for name in part:
                fields = put_fields(Document(name, "stone", f"house {name}"), encoder)
                answer = await client.post(f"{PATH}{name}", json={"fields": fields})
                if answer.status_code != 200:
                    return answer
                acknowledged.append(name)
                if stop(len(acknowledged)):
                    return None
            return None

        parts = [names[stream::32] for stream in range(32)]
        results = await asyncio.gather(*map(put_some, parts), return_exceptions=True)
    refusals = [result for result in results if isinstance(result, httpx.Response)]
    return acknowledged, refusals


def test_a_kill_loses_nothing_that_was_acknowledged(package, encoder, tmp_path):
    data = tmp_path / "data"
    names = [f"k{n}" for n in range(4000)]
    acknowledged = []
    for start in (0, 2000):
        engine = EngineProcess(package, data)
        engine.wait()

        def stop(count, engine=engine):
            if count == 700:
                engine.process.send_signal(signal.SIGKILL)
            return count >= 700

        part = names[start : start + 2000]
        done, _ = asyncio.run(feed_until(engine.url, encoder, part, stop))
        acknowledged += done
        assert engine.process.wait(10) == -signal.SIGKILL
    assert len(acknowledged) >= 1400
    with running_engine(package, data) as url, httpx.Client(base_url=url, timeout=30) as client:
        for start in range(0, len(acknowledged), 400):
            chunk = acknowledged[start : start + 400]
            listed = ",".join(chunk)
            answer = client.post(
                "/search/",
                json={
                    "yql": "select doc_id from doc where doc_id in (@names)",
                    "names": listed,
                    "hits": 400,
                },
            ).json()["root"]
            assert {hit["fields"]["doc_id"] for hit in answer["children"]} == set(chunk)
        assert client.get(PATH + acknowledged[-1]).json()["fields"]["title"] == "stone"
        # Also the words of each: the last one's own word finds it.
        typed = "select * from doc where userQuery()"
        assert total(client, typed, query=acknowledged[-1], type="phrase") == 1


def test_a_full_disk_is_507_and_passes(package, encoder, tmp_path):
    data = tmp_path / "data"
    engine = EngineProcess(package, data)
    engine.wait()
    try:
        with httpx.Client(base_url=engine.url, timeout=30) as client:
            fields = put_fields(Document("first", "stone", "house"), encoder)
            assert client.post(f"{PATH}first", json={"fields": fields}).status_code == 200
            assert total(client) == 1
            limits = resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (300_000, limits[1]))
            names = [f"f{n}" for n in range(3000)]
            done, refused = asyncio.run(feed_until(engine.url, encoder, names, lambda n: False))
            assert refused and {answer.status_code for answer in refused} == {507}
            assert "make room" in refused[0].json()["message"]
            assert client.get("/state/v1/health").status_code == 200
            resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, limits)
            assert client.post(f"{PATH}last", json={"fields": fields}).status_code == 200
            assert total(client) == len(done) + 2
            kept = {d["id"].rpartition(":")[2] for d in visited(client)}
            assert kept == {"first", "last", *done}
    finally:
        engine.stop()


def visited(client):
    documents, token = [], {}
    while True:
        page = client.get(PATH, params={"wantedDocumentCount": "1000", **token}).json()
        documents += page["documents"]
        if "continuation" not in page:
            return documents
        token = {"continuation": page["continuation"]}


def test_a_stop_answers_what_is_under_way(package, encoder, tmp_path):
    engine = EngineProcess(package, tmp_path / "data")
    engine.wait()
    host, port = engine.url.removeprefix("http://").split(":")
    body = json.dumps({"fields": put_fields(Document("half", "stone", "house"), encoder)}).encode()
    head = f"POST {PATH}half HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    client = httpx.Client(base_url=engine.url, timeout=60)
    with client, socket.create_connection((host, int(port)), 60) as upload:
        assert client.get("/state/v1/health").status_code == 200
        upload.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode() + body[:9])
        assert upload.recv(1000).startswith(b"HTTP/1.1 100 ")  # the engine reads the body: it began
        engine.process.send_signal(signal.SIGTERM)
        while (answer := client.get("/state/v1/health")).status_code == 200:
            pass
        assert (answer.status_code, answer.json()) == (503, {"message": "stopping"})
        upload.sendall(body[9:])
        assert upload.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert engine.process.wait(60) == 0, engine.log.read_text()
    with running_engine(package, tmp_path / "data") as url:
        assert httpx.get(f"{url}{PATH}half", timeout=60).json()["fields"]["text"] == "house"


def test_a_stop_keeps_what_was_acknowledged(package, encoder, tmp_path):
    engine = EngineProcess(package, tmp_path / "data")
    engine.wait()

    def stop(count):
        if count == 200:
            engine.process.send_signal(signal.SIGTERM)
        return count >= 300

    names = [f"s{n}" for n in range(3000)]
    done, _ = asyncio.run(feed_until(engine.url, encoder, names, stop))
    end = time.monotonic() + 60
    while engine.process.poll() is None and time.monotonic() < end:
        # Asking again changes nothing, at any moment.
        engine.process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    assert engine.process.returncode == 0, engine.log.read_text()
    log = engine.log.read_text()
    assert "Traceback" not in log and log.rstrip().endswith("stopped")
    with running_engine(package, tmp_path / "data") as url:
        with httpx.Client(base_url=url, timeout=60) as client:
            assert total(client) >= len(done)


def run_engine(*arguments):
    command = [sys.executable, "-m", "ranker.engine", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_cannot_be_served_is_one_line(package, url, tmp_path):
    port = url.rpartition(":")[2]
    taken = run_engine(tmp_path / "no-app", "--data", tmp_path / "data", "--port", port)
    assert taken.returncode == 1
    assert taken.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert not (tmp_path / "data").exists()
    missing = run_engine(tmp_path / "no-app", "--data", tmp_path / "data", "--port", free_port())
    assert missing.returncode == 1 and "is not an application package" in missing.stderr
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("mine")
    refused = run_engine(package, "--data", foreign, "--port", free_port())
    assert refused.returncode == 1 and "which holds other files" in refused.stderr
    assert [path.name for path in foreign.iterdir()] == ["letter.txt"]
    for done in (taken, missing, refused):
        assert "Traceback" not in done.stderr and done.stderr.count("error: ") == 1


def test_a_data_folder_has_one_engine_and_one_contract(package, tmp_path):
    data = tmp_path / "data"
    with running_engine(package, data) as url:
        assert httpx.post(f"{url}{PATH}1", json={"fields": {"title": "x"}}).status_code == 200
        second = run_engine(package, "--data", data, "--port", free_port())
        assert second.returncode == 1 and "is in use by another engine (process " in second.stderr
    other = make_app(tmp_path / "other", document_slots=64)
    refused = run_engine(other, "--data", data, "--port", free_port())
    assert refused.returncode == 1 and "belongs to the token contract" in refused.stderr


def test_ports_that_cannot_be():
    with pytest.raises(UsageError, match="expected a --port from 1 to 65535"):
        check_port("127.0.0.1", 99999)
    with pytest.raises(EndpointError, match="choose another --port"):
        check_port("192.0.2.1", free_port())
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        with pytest.raises(EndpointError, match="cannot listen"):
            check_port("127.0.0.1", taken.getsockname()[1])
