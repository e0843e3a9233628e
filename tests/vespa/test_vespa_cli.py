"""The official `vespa` program, unchanged, against a running engine (deploying is elsewhere)."""

import json
import random

import pytest
from clients_support import VOCABULARY, VespaCli, documents, ledger_of
from engine_support import free_port, put_fields

DOCUMENTS = documents(40, seed=3, prefix="c")
OPERATIONS = 10_000


ledger, count = ledger_of("vespa CLI")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("vespa-home")


@pytest.fixture(scope="module")
def vespa(url, home, ledger):
    return VespaCli(url, home, ledger)


@pytest.fixture
def fed(vespa, encoder, tmp_path):
    """Feed `DOCUMENTS`, and nothing else."""
    vespa_clean(vespa)
    path = write_lines(tmp_path / "fed.jsonl", puts(encoder))
    assert vespa.json("feed", path)["feeder.ok.count"] == len(DOCUMENTS)
    return vespa


def vespa_clean(vespa):
    """Remove every document that a visit finds."""
    found = vespa.lines("visit", "--field-set", "[id]")
    lines = "".join(json.dumps({"remove": one["id"]}) + "\n" for one in found)
    if lines:
        vespa.json("feed", "-", stdin=lines)


def puts(encoder):
    return [
        {"put": f"id:ranker:doc::{d.doc_id}", "fields": put_fields(d, encoder)} for d in DOCUMENTS
    ]


def write_lines(path, operations):
    path.write_text("".join(json.dumps(operation) + "\n" for operation in operations))
    return str(path)


def state(vespa, *options):
    """Return the fields of all documents by id; a visit must find each once."""
    found = vespa.lines("visit", *options)
    documents_ = {one["id"]: one["fields"] for one in found}
    assert len(documents_) == len(found)
    return documents_


def total(vespa, where="true"):
    answer = vespa.json("query", f"select * from doc where {where}", "hits=0")
    return answer["root"]["fields"]["totalCount"]


# --- is it there? --------------------------------------------------------------------------------


def test_status(vespa, url, home, ledger):
    for arguments in (["status"], ["status", "document"], ["status", "query"]):
        done = vespa(*arguments)
        assert done.returncode == 0 and done.stdout == f"Container at {url} is ready\n"
    assert vespa("status", "--format", "plain").stdout == f"{url}\n"
    assert vespa.json("status", "--format", "json", "--wait", "5")["ready"] is True
    unreachable = VespaCli(f"http://127.0.0.1:{free_port()}", home, ledger)
    done = unreachable("status")
    assert done.returncode == 1 and "connection refused" in done.stdout + done.stderr


# --- feeding -------------------------------------------------------------------------------------


class Model:
    """Return the documents that a sequence of operations must leave, and the status of each."""

    def __init__(self):
        self.documents = {}
        self.statuses = {200: 0, 412: 0}

    def apply(self, operation):
        verb, id_ = next(
            (key, operation[key]) for key in ("put", "update", "remove") if key in operation
        )
        before = self.documents.get(id_)
        fields = operation.get("fields", {})
        create = operation.get("create", False)
        wanted = operation.get("condition")
        if wanted and not (before is None and create):
            title = wanted.split('"')[1]
            if before is None or before.get("title") != title:
                self.statuses[412] += 1
                return
        self.statuses[200] += 1
        if verb == "put":
            self.documents[id_] = dict(fields)
        elif verb == "remove":
            self.documents.pop(id_, None)
        elif before is not None or create:
            after = self.documents.setdefault(id_, {})
            for name, change in fields.items():
                after[name] = change["assign"]
                if after[name] is None:
                    del after[name]


def mixed_operations(count, seed):
    """Yield puts, updates and removals of a few documents, some of them conditional."""
    pick = random.Random(seed)
    for n in range(count):
        name = f"m{pick.randrange(1500)}"
        id_ = f"id:mixed:doc::{name}"
        title = pick.choice(VOCABULARY[:4])
        kind = pick.choices(("put", "update", "remove"), (5, 3, 2))[0]
        operation = {kind: id_}
        if kind == "put":
            operation["fields"] = {"doc_id": name, "title": title, "text": f"tree {n}"}
        elif kind == "update":
            text = pick.choice((f"river {n}", None))
            operation["fields"] = {"title": {"assign": title}, "text": {"assign": text}}
        if pick.random() < 0.2:
            operation["condition"] = f'doc.title == "{pick.choice(VOCABULARY[:4])}"'
        if kind != "remove" and pick.random() < 0.2:
            operation["create"] = True
        yield operation


def test_a_large_mixed_feed_ends_in_the_right_state(vespa, tmp_path):
    """Operations on one document run in the order of the file, regardless of all others."""
    operations = list(mixed_operations(OPERATIONS, seed=5))
    model = Model()
    for operation in operations:
        model.apply(operation)
    assert min(model.statuses.values()) > 500
    half = OPERATIONS // 2
    lines = write_lines(tmp_path / "first.jsonl", operations[:half])
    array = tmp_path / "second.json"
    array.write_text(json.dumps(operations[half:], indent=1))
    counts = []
    for file in (lines, str(array)):
        summary = vespa.json("feed", file)
        assert summary["feeder.operation.count"] == half
        assert summary["feeder.error.count"] == summary["http.exception.count"] == 0
        counts.append(summary["http.response.code.counts"])
    for status, expected in model.statuses.items():
        assert sum(one.get(str(status), 0) for one in counts) == expected
    left = state(vespa, "--selection", 'id.namespace == "mixed"')
    assert left == model.documents
    for word in ("river", "tree", "red"):
        expected = sum(
            word in f"{d.get('title')} {d.get('text')}".split() for d in model.documents.values()
        )
        assert total(vespa, f'contents contains "{word}"') == expected
    vespa_clean(vespa)
    assert state(vespa) == {} and total(vespa) == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--connections", "2", "--inflight", "3"],
        ["--compression", "gzip", "--timeout", "20", "--verbose"],
        ["--compression", "none", "--progress", "1", "--wait", "5", "--deadline", "30"],
        ["--route", "default", "--header", "X-Name: value"],
    ],
)
def test_options_of_a_feed(vespa, encoder, tmp_path, options):
    path = write_lines(tmp_path / "feed.jsonl", puts(encoder))
    assert vespa.json("feed", path, *options)["http.response.code.counts"] == {"200": 40}


def test_a_feed_from_standard_input_and_of_several_files(vespa, encoder, tmp_path):
    vespa_clean(vespa)
    operations = puts(encoder)
    lines = "".join(json.dumps(operation) + "\n" for operation in operations[:10])
    assert vespa.json("feed", "-", stdin=lines)["feeder.ok.count"] == 10
    files = [
        write_lines(tmp_path / "a.jsonl", operations[10:20]),
        write_lines(tmp_path / "b.jsonl", operations[20:]),
    ]
    assert vespa.json("feed", *files)["feeder.ok.count"] == 30
    assert len(state(vespa)) == total(vespa) == 40


def test_operations_that_fail_are_reported_and_the_others_arrive(fed, tmp_path):
    operations = [
        {"put": "id:ranker:doc::ok", "fields": {"title": "pear"}},
        {"put": "id:ranker:doc::bad", "fields": {"nosuch": 1}},
        {"put": "id:ranker:music::bad", "fields": {}},
        {"update": "id:ranker:doc::ok", "fields": {"title": {"increment": 1}}},
        {"update": "id:ranker:doc::ok", "condition": "doc.title ==", "fields": {}},
        {"remove": "id:ranker:doc::ok", "condition": 'doc.title == "plum"'},
    ]
    done = fed("feed", write_lines(tmp_path / "bad.jsonl", operations))
    summary = json.loads(done.stdout)
    # The program itself exits with 0 here, as it does against Vespa.
    assert done.returncode == 0
    assert summary["http.response.code.counts"] == {"200": 1, "400": 3, "412": 1, "500": 1}
    for words in (
        "the document type doc has no field 'nosuch'",
        "expected the document type doc, got 'music'",
        "a field of type string has no 'increment'; expected assign",
        "not understood from",
    ):
        assert words in done.stderr
    assert state(fed, "--selection", 'doc.title == "pear"') == {
        "id:ranker:doc::ok": {"title": "pear"}
    }
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"put":"id:ranker:doc::x","fields":{}}\n{"put":')
    assert fed("feed", str(broken)).returncode == 1


def test_the_speed_test(vespa):
    done = vespa.json("feed", "--speedtest", "100", "--speedtest-duration", "1")
    assert list(done["http.response.code.counts"]) == ["200"]
    assert state(vespa, "--selection", 'id.namespace == "test"') == {}


# --- one document --------------------------------------------------------------------------------


def test_one_document(fed, tmp_path):
    one = tmp_path / "one.json"
    one.write_text(json.dumps({"put": "id:ranker:doc::x/y z", "fields": {"title": "pear"}}))
    assert fed("document", "put", str(one)).returncode == 0
    assert fed("document", str(one)).returncode == 0
    assert fed("document", "put", "id:n2:doc::é#?", str(one), "--timeout", "5").returncode == 0
    data = ["--data", '{"fields":{"title":"plum","text":"tree"}}']
    assert fed("document", "put", "id:ranker:doc::g", *data).returncode == 0
    got = fed("document", "get", "id:ranker:doc::x/y z", "id:n2:doc::é#?", "id:ranker:doc::g")
    assert got.returncode == 0 and got.stdout.count('"title": "pear"') == 2
    assert fed.json("document", "get", "id:n2:doc::é#?")["id"] == "id:n2:doc::é#?"
    part = fed.json("document", "get", "id:ranker:doc::g", "--field-set", "doc:title")
    assert part["fields"] == {"title": "plum"}

    change = json.dumps({"fields": {"text": {"assign": None}}})
    assert fed("document", "update", "id:ranker:doc::g", "--data", change).returncode == 0
    assert fed.json("document", "get", "id:ranker:doc::g")["fields"] == {"title": "plum"}
    new = {"update": "id:ranker:doc::new", "create": True, "fields": {"title": {"assign": "z"}}}
    assert fed("document", "update", "-", stdin=json.dumps(new)).returncode == 0
    tokens = {"modify": {"operation": "replace", "cells": [{"address": {"d0": "0"}, "value": 6}]}}
    change = json.dumps({"fields": {"doc_token_ids": tokens}})
    assert fed("document", "update", "id:ranker:doc::c0", "--data", change).returncode == 0
    assert (
        fed.json("document", "get", "id:ranker:doc::c0")["fields"]["doc_token_ids"]["values"][0]
        == 6
    )

    for id_ in ("id:ranker:doc::x/y z", "id:n2:doc::é#?", "id:ranker:doc::g", "id:ranker:doc::new"):
        assert fed("document", "remove", id_).returncode == 0
    one.write_text(json.dumps({"remove": "id:ranker:doc::c0"}))
    assert fed("document", "remove", str(one)).returncode == 0
    assert len(state(fed)) == len(DOCUMENTS) - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get", "id:ranker:doc::nosuch"], "Status 404"),
        (["get", "id:ranker:music::x"], "expected the document type doc, got 'music'"),
        (
            ["get", "id:ranker:doc::c0", "--field-set", "doc:nosuch"],
            "token_fingerprint, got 'nosuch'",
        ),
        (
            ["put", "id:ranker:doc::x", "--data", '{"fields":{"nosuch":1}}'],
            "doc has no field 'nosuch'",
        ),
        (
            ["put", "id:ranker:doc::x", "--data", '{"fields":{"title":[1]}}'],
            "expected a string, got [1]",
        ),
        (
            ["update", "id:ranker:doc::x", "--data", '{"fields":{"nosuch":{"assign":1}}}'],
            "field 'nosuch': expected one of the fields",
        ),
        (
            ["update", "id:ranker:doc::x", "--data", '{"fields":{"title":{"add":["a"]}}}'],
            "a field of type string has no 'add'; expected assign",
        ),
        (
            ["update", "id:ranker:doc::x", "--data", '{"condition":"doc","fields":{}}'],
            "Status 412",
        ),
    ],
)
def test_a_document_operation_that_fails_exits_with_1(fed, arguments, message):
    done = fed("document", *arguments)
    assert done.returncode == 1 and message in done.stderr
    assert len(state(fed)) == len(DOCUMENTS)


def test_a_missing_document_may_be_ignored(fed):
    assert fed("document", "get", "id:ranker:doc::nosuch", "--ignore-missing").returncode == 0


# --- queries -------------------------------------------------------------------------------------


def test_queries(fed, tmp_path):
    where = "select * from doc where userQuery()"
    answer = fed.json(
        "query", where, "query=fox", "hits=2", "ranking=bm25", "presentation.timing=1"
    )
    expected = sum("fox" in f"{d.title} {d.text}".split() for d in DOCUMENTS)
    assert answer["root"]["fields"]["totalCount"] == expected > 2
    assert len(answer["root"]["children"]) == 2 and "timing" in answer
    file = tmp_path / "query.json"
    file.write_text(json.dumps({"yql": where, "query": "dog", "hits": 5, "ranking": "bm25"}))
    done = fed(
        "query", "--file", str(file), "hits=1", "query=fox", "--format", "plain", "--wait", "2"
    )
    assert done.returncode == 0 and done.stdout.count("\n") <= 1
    assert len(json.loads(done.stdout)["root"]["children"]) == 1
    done = fed("query", f"yql={where}", "query=fox", "-T", "3", "--header", "X-A: b", "--verbose")
    assert done.returncode == 0 and "timeout=3s" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["nonsense"], "YQL: unexpected 'nonsense' in line 1"),
        (["select * from music where true"], "unknown source 'music'; expected one of doc"),
        (["select * from doc where true", "ranking=nosuch"], "has no rank profile 'nosuch'"),
        (["select * from doc where true", "hits=401"], "'hits': expected at most 400, got 401"),
        (["select * from doc where true", "ranking=cross"], "input.query(query_token_ids) is miss"),
        (["select * from doc where doc_id matches 'a'"], "not supported by the embedded engine"),
    ],
)
def test_a_query_that_fails_exits_with_1(vespa, parameters, message):
    done = vespa("query", *parameters)
    assert done.returncode == 1
    assert "400 Bad Request" in done.stderr and message in done.stderr


# --- visits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--stream"],
        ["--pretty-json"],
        ["--chunk-count", "7"],
        ["--content-cluster", "content", "--bucket-space", "default"],
        ["--field-set", "doc:[document]"],
        ["--verbose"],
    ],
)
def test_visits_find_every_document_once(fed, encoder, options):
    done = fed("visit", *options)
    assert done.returncode == 0 and "WARNING" not in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sorted(one["id"] for one in found) == sorted(
        f"id:ranker:doc::{d.doc_id}" for d in DOCUMENTS
    )
    first = next(one["fields"] for one in found if one["id"].endswith("::c1"))
    fields = put_fields(DOCUMENTS[1], encoder)
    tokens = {"type": "tensor<float>(d0[95])", **fields["doc_token_ids"]}
    assert first == {**{k: v for k, v in fields.items() if v != ""}, "doc_token_ids": tokens}


def test_parts_of_a_visit(fed):
    ids = {f"id:ranker:doc::{d.doc_id}" for d in DOCUMENTS}
    slices = [state(fed, "--slices", "3", "--slice-id", str(n)) for n in range(3)]
    assert set().union(*slices) == ids and sum(map(len, slices)) == len(ids)
    only = state(fed, "--field-set", "[id]")
    assert set(only) == ids and not any(only.values())
    chosen = state(
        fed, "--selection", 'doc.doc_id = "c?" and doc.title', "--field-set", "doc:doc_id"
    )
    expected = {f"c{n}" for n in range(10) if DOCUMENTS[n].title}
    assert {fields["doc_id"] for fields in chosen.values()} == expected


def test_a_visit_makes_a_feed(fed, tmp_path):
    """The output of a visit can be fed again, with the same result."""
    before = state(fed)
    done = fed("visit", "--make-feed")
    assert len(json.loads(done.stdout)) == len(DOCUMENTS)
    feed = tmp_path / "made.json"
    feed.write_text(done.stdout)
    vespa_clean(fed)
    assert state(fed) == {}
    assert fed.json("feed", str(feed))["feeder.ok.count"] == len(DOCUMENTS)
    assert state(fed) == before and total(fed) == len(DOCUMENTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--content-cluster", "nosuch"], "no content cluster 'nosuch', only 'content'"),
        (["--selection", "doc.title =="], "not understood from"),
        (["--selection", "doc.title =~ 'a'"], "not understood from"),
        (["--field-set", "doc:nosuch"], "token_fingerprint, got 'nosuch'"),
        (["--slices", "2", "--slice-id", "2"], ""),
        (["--from", "5"], "'fromTimestamp' is not supported"),
    ],
)
def test_a_visit_that_fails_exits_with_1(vespa, options, message):
    done = vespa("visit", *options)
    assert done.returncode == 1 and message in done.stderr and not done.stdout
