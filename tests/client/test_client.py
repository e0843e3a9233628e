"""Requests as Vespa wants them, responses as Vespa sends them, failures as errors of one line."""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from engine_support import make_app, tiny_spec, tokenizer_json
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import DROP, Reply, Request, ScriptedServer, scripted

from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App, Client, query_body
from ranker.errors import ArtifactError, EndpointError, ResponseError, SpecMismatch, UsageError

FINGERPRINT = "attribute(token_fingerprint)"


@pytest.fixture(scope="module")
def app(package: Path) -> App:
    return App.open(package)


def result(*children: dict[str, Any], **root: Any) -> dict[str, Any]:
    """A search result: https://docs.vespa.ai/en/reference/default-result-format.html."""
    return {
        "timing": {"querytime": 0.004, "summaryfetchtime": 0.001, "searchtime": 0.006},
        "root": {
            "id": "toplevel",
            "relevance": 1.0,
            "fields": {"totalCount": 42},
            "coverage": {"coverage": 100, "documents": 1000, "full": True, "nodes": 1},
            "children": list(children),
            **root,
        },
    }


def child(doc_id: str, app: App, relevance: Any = 1.5, **features: Any) -> dict[str, Any]:
    number = app.manifest.spec.fingerprint_number
    return {
        "id": f"id:ranker:doc::{doc_id}",
        "relevance": relevance,
        "source": "content",
        "fields": {
            "matchfeatures": {"bm25(contents)": 7.1, FINGERPRINT: float(number), **features},
            "sddocname": "doc",
            "doc_id": doc_id,
            "title": "red fox",
        },
    }


# The request


def test_the_request_of_a_token_profile(app: App) -> None:
    body = query_body("red fox", app, profile="cross", hits=20, offset=5, summary="ids")
    assert body["query_text"] == "red fox"
    assert body["language"] == "en"
    assert body["ranking.profile"] == "cross"
    assert (body["hits"], body["offset"], body["timeout"]) == (20, 5, "10s")
    assert body["presentation.summary"] == "ids"
    assert body["presentation.timing"] is True
    assert body["yql"] == (
        'select * from doc where ({targetHits: 1000, grammar: "tokenize", '
        'defaultIndex: "contents"}userInput(@query_text))'
    )
    vocabulary = json.loads(tokenizer_json())["model"]["vocab"]
    ids = [vocabulary["red"], vocabulary["fox"]]
    assert body["input.query(query_token_ids)"] == ids + [0] * 28
    assert body["input.query(token_fingerprint)"] == int(tiny_spec().fingerprint, 16)
    assert not any("rerankCount" in name for name in body)
    json.dumps(body)


def test_a_profile_without_the_model_gets_no_tokens(app: App) -> None:
    body = query_body("red fox", app, profile="bm25")
    assert not any(name.startswith("input.") for name in body)
    assert "presentation.summary" not in body


def test_the_recommended_profile_is_the_default(app: App) -> None:
    assert query_body("red", app)["ranking.profile"] == app.manifest.recommended_profile == "blend"


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("cross", "ranking.secondPhase.rerankCount"),
        ("blend", "ranking.secondPhase.rerankCount"),
        ("cross_global", "ranking.globalPhase.rerankCount"),
    ],
)
def test_rerank_count_goes_to_the_phase_of_the_profile(app: App, profile: str, name: str) -> None:
    body = query_body("red", app, profile=profile, rerank_count=300)
    assert body[name] == 300
    assert "targetHits: 3000" in body["yql"]
    assert sum("rerankCount" in key for key in body) == 1


def test_the_question_is_a_parameter_and_never_syntax(app: App) -> None:
    question = '") or true; select * from doc where title:"x" -fox {a} @b \\ +c (d) 100%'
    body = query_body(question, app, profile="bm25")
    assert body["query_text"] == question  # no apostrophe in it, so as it is
    assert body["yql"] == query_body("red", app, profile="bm25")["yql"]


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_every_question_gives_a_request_or_a_usage_error(app: App, text: str) -> None:
    try:
        body = query_body(text, app, profile="cross")
    except UsageError:
        # Vespa's words are made of letters, digits and symbols such as emoji.
        assert not any("a" <= letter.lower() <= "z" or letter in "0123456789" for letter in text)
        return
    ids = body["input.query(query_token_ids)"]
    assert len(ids) == 30 and all(isinstance(i, int) and i >= 0 for i in ids)
    assert sorted(map(bool, ids), reverse=True) == list(map(bool, ids))  # no 0 inside
    json.dumps(body).encode("utf-8")


@pytest.mark.parametrize("text", ["", "  \n", "?!...", '"-+*"', "\x00\x07", "\u0301", "…—"])
def test_a_question_without_a_word_is_refused(app: App, text: str) -> None:
    with pytest.raises(UsageError, match="holds no word to search for"):
        query_body(text, app)


@pytest.mark.parametrize(
    ("text", "words"),
    [(text, text) for text in ["a", "7", "é", "語", "😀", "x?"]]
    + [("①", "1"), ("don't", "don t"), ("ﬁx ½", "fix 1⁄2")],
)
def test_words_are_sent_as_the_index_has_them(app: App, text: str, words: str) -> None:
    assert query_body(text, app, profile="bm25")["query_text"] == words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "best"}, "unknown rank profile 'best'; the application has: bm25, cross"),
        ({"hits": -1}, "hits and offset must be 0 or more, got -1 and 0"),
        ({"offset": -5}, "hits and offset must be 0 or more, got 10 and -5"),
        ({"timeout_s": 0}, "timeout_s must be from 0.001 to 86400 seconds, got 0"),
        ({"timeout_s": math.nan}, "timeout_s must be from 0.001 to 86400 seconds, got nan"),
        ({"rerank_count": 0}, "rerank_count must be 1 or more, got 0"),
        ({"profile": "bm25", "rerank_count": 5}, "rank profile bm25 reranks nothing"),
    ],
)
def test_impossible_options(app: App, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        query_body("red", app, **options)


def test_code_points_that_vespa_refuses_do_not_get_into_the_request(app: App) -> None:
    body = query_body("red\x00fox\ud800", app, profile="cross")
    assert body["query_text"] == "red fox "


# The result


def test_a_result(app: App) -> None:
    answer = result(child("a/b c", app, 3.25), child("z", app, "-Infinity"))
    with scripted(lambda request: Reply(200, answer)) as server, Client(server.url, app) as client:
        outcome = client.search("red fox", profile="cross")
        assert [hit.doc_id for hit in outcome.hits] == ["a/b c", "z"]
        assert [hit.relevance for hit in outcome.hits] == [3.25, -math.inf]
        assert outcome.hits[0].match_features["bm25(contents)"] == 7.1
        assert outcome.hits[0].fields["title"] == "red fox"
        assert "matchfeatures" not in outcome.hits[0].fields
        assert (outcome.total_count, outcome.server_s) == (42, 0.006)
        assert 0 < outcome.latency_s < 5
        sent = server.requests[0]
        assert (sent.method, sent.path) == ("POST", "/search/")
        assert sent.headers["content-type"] == "application/json"
        assert sent.json() == query_body("red fox", app, profile="cross")


def test_no_hits_is_a_result(app: App) -> None:
    answer = result()
    del answer["root"]["children"], answer["timing"]
    with scripted(lambda request: Reply(200, answer)) as server, Client(server.url, app) as client:
        outcome = client.search("red")
        assert (outcome.hits, outcome.server_s) == ((), None)


# The probability


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp("calibrated") / "app"
    return App.open(make_app(folder, calibration={"slope": 1.0, "intercept": -2.0}))


def likely(app: App, **probabilities: Any) -> dict[str, Any]:
    """A result with a hit of each probability, by document id; None without summary features."""
    children = [child(doc_id, app) for doc_id in probabilities]
    for hit, probability in zip(children, probabilities.values(), strict=True):
        if probability is not None:
            hit["fields"]["summaryfeatures"] = {"logit": 9.0, "probability": probability}
    return result(*children)


def serving(answer: dict[str, Any]) -> contextlib.AbstractContextManager[ScriptedServer]:
    return scripted(lambda request: Reply(200, answer))


def test_hits_have_the_probability_that_the_server_computes(calibrated: App, app: App) -> None:
    with serving(likely(calibrated, a=0.75, b=None)) as server:
        hits = Client(server.url, calibrated).search("red fox", profile="cross").hits
    assert [hit.probability for hit in hits] == [0.75, None]
    # Without a calibration, a function of that name would be the application's own.
    with serving(likely(app, a=0.75)) as server:
        (hit,) = Client(server.url, app).search("red fox", profile="cross").hits
    assert hit.probability is None


@pytest.mark.parametrize(("least", "kept"), [(0.0, "abc"), (0.5, "ac"), (0.75, "a"), (1.0, "")])
def test_min_score_keeps_the_hits_that_reach_it(calibrated: App, least: float, kept: str) -> None:
    with serving(likely(calibrated, a=0.75, b=0.25, c=0.5)) as server:
        found = Client(server.url, calibrated).search("red fox", profile="blend", min_score=least)
    assert "".join(hit.doc_id for hit in found.hits) == kept and found.total_count == 42


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 1.5}, "min_score is a probability, expected 0 to 1, got 1.5"),
        ({"min_score": math.nan}, "expected 0 to 1, got nan"),
        ({"profile": "bm25"}, r"\(cross, blend\), got bm25"),
        ({"profile": "cross_global"}, r"\(cross, blend\), got cross_global"),
        ({"summary": "ids"}, "needs the default summary class"),
    ],
)
def test_min_score_where_there_are_no_probabilities(
    calibrated: App, options: dict[str, Any], message: str
) -> None:
    client = Client("http://localhost:1", calibrated)  # nothing is asked
    with pytest.raises(UsageError, match=message):
        client.search("red fox", **({"profile": "cross", "min_score": 0.5} | options))


def test_min_score_of_an_uncalibrated_model_is_refused_with_the_reason(app: App) -> None:
    with pytest.raises(UsageError, match="the one of application ranker is not: too few"):
        Client("http://localhost:1", app).search("red fox", profile="cross", min_score=0.5)


@pytest.mark.parametrize("probability", [None, "NaN", {"cells": []}])
def test_a_hit_without_probability_is_an_error_for_min_score(
    calibrated: App, probability: Any
) -> None:
    answer = likely(calibrated, a=0.9, b=probability)
    with (
        serving(answer) as server,
        pytest.raises(ResponseError, match=r"'b' .* has no probability: .*profile cross"),
    ):
        Client(server.url, calibrated).search("red fox", profile="cross", min_score=0.1)


def test_a_hit_without_the_field_is_named_by_its_document_id(app: App) -> None:
    hit = child("x::y", app)
    del hit["fields"]["doc_id"]
    nameless = {**hit, "id": "index:content/0/abc"}
    answers = iter([result(hit), result(nameless)])
    with (
        scripted(lambda request: Reply(200, next(answers))) as server,
        Client(server.url, app) as client,
    ):
        assert client.search("red").hits[0].doc_id == "x::y"
        with pytest.raises(ResponseError, match="no field doc_id and no document id"):
            client.search("red")


ERROR = {"code": 4, "summary": "Invalid query parameter", "message": "no profile\n'x'"}


@pytest.mark.parametrize(
    ("reply", "message", "status", "code"),
    [
        (
            Reply(400, {"root": {"errors": [ERROR]}}),
            "HTTP 400 with error 4: Invalid .* 'x'",
            400,
            4,
        ),
        # At least one hit: the status stays 200.
        (Reply(200, {"root": {"errors": [ERROR], "children": [{}]}}), "error 4", 200, 4),
        (Reply(504, {"root": {"errors": [{"code": 12}]}}), "HTTP 504 with error 12", 504, 12),
        (Reply(500, {"root": {}}), "refused the query: HTTP 500", 500, None),
        (
            Reply(503, b"<html>down</html>"),
            "expected JSON from .* HTTP 503 with '<html>",
            503,
            None,
        ),
        (Reply(200, {"documents": []}), "expected a search result from", 200, None),
        (Reply(200, [1]), "expected a search result from", 200, None),
        (Reply(200, b""), "expected JSON from", 200, None),
        (
            Reply(200, result(coverage={"coverage": 50, "full": False, "documents": 1})),
            "searched only 50 % of the documents",
            200,
            None,
        ),
        (
            Reply(200, result(coverage={"coverage": 99, "degraded": {"timeout": True}})),
            "reason: timeout",
            200,
            None,
        ),
    ],
)
def test_an_error_is_never_an_empty_result(
    app: App, reply: Reply, message: str, status: int, code: int | None
) -> None:
    with scripted(lambda request: reply) as server, Client(server.url, app) as client:
        with pytest.raises(ResponseError, match=message) as caught:
            client.search("red", profile="bm25")
        assert (caught.value.status, caught.value.code) == (status, code)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "document 'd' at .* was fed without tokens"),
        (None, "was fed without tokens"),
        (math.nan, "was fed without tokens"),
        ("NaN", "was fed without tokens"),
        (float(0xABC), "was fed under the token contract 0000000000abc"),
    ],
)
def test_hits_of_another_contract_are_refused(app: App, value: Any, message: str) -> None:
    hit = child("d", app, **{FINGERPRINT: value})
    with (
        scripted(lambda request: Reply(200, result(child("c", app), hit))) as server,
        Client(server.url, app) as client,
    ):
        with pytest.raises(SpecMismatch, match=message) as caught:
            client.search("red", profile="cross")
        assert app.manifest.spec.fingerprint in str(caught.value)
        assert len(client.search("red", profile="bm25").hits) == 2  # needs no tokens


def test_hits_without_the_fingerprint_come_from_another_application(app: App) -> None:
    hit = child("d", app)
    del hit["fields"]["matchfeatures"]
    with scripted(lambda request: Reply(200, result(hit))) as server, Client(server.url, app) as c:
        with pytest.raises(SpecMismatch, match="another application is deployed there"):
            c.search("red", profile="blend")


# The connection


def test_a_server_that_is_not_there(app: App) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with Client(url, app) as client:
            with pytest.raises(EndpointError, match=f"nothing answers at {url} .*ranker serve"):
                client.search("red")


def test_unknown_host(app: App) -> None:
    with Client("http://no-such-host.invalid", app) as client:
        with pytest.raises(
            EndpointError, match="the host of http://no-such-host.inv.* is not known"
        ):
            client.search("red")


def test_a_password_in_the_address_is_refused(app: App) -> None:
    with pytest.raises(UsageError, match="a name and a password in the URL would not be sent"):
        Client("https://me:secret@search.example:8443", app)


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://x", "http://", "http://a:b", "http://a b"]
)
def test_a_text_that_is_not_a_url(app: App, url: str) -> None:
    with pytest.raises(UsageError, match="expected a URL such as http://localhost:8080, got"):
        Client(url, app)


def test_a_server_that_does_not_answer_in_time() -> None:
    with (
        scripted(lambda request: Reply(delay=0.5)) as server,
        Http(Endpoint.of(server.url)) as http,
    ):
        with pytest.raises(EndpointError, match=r"no answer from .* within 0.1 s"):
            http.get("/", timeout_s=0.1)


@pytest.mark.parametrize("reply", [DROP, Reply(200, b"x" * 100, cut=True)])
def test_a_broken_connection(app: App, reply: Reply) -> None:
    with scripted(lambda request: reply) as server, Client(server.url, app) as client:
        with pytest.raises(EndpointError, match="broke the connection"):
            client.search("red")
        assert len(server.requests) == 1


def test_connections_are_kept_and_renewed(app: App) -> None:
    """A server closes idle connections whenever it likes, without any effect on a search."""

    def script(request: Request) -> Reply:
        if request.number == 3:  # the third comes on a kept connection
            return DROP
        return Reply(200, result())

    with scripted(script) as server, Client(server.url, app) as client:
        for _ in range(4):
            client.search("red")
        assert [r.connection for r in server.requests] == [1, 1, 1, 2, 2]


def test_a_client_works_in_many_threads(app: App) -> None:
    def script(request: Request) -> Reply:
        return Reply(200, result(child(request.json()["query_text"], app)), delay=0.005)

    wrong: list[str] = []
    with scripted(script) as server, Client(server.url, app) as client:

        def ask(name: str) -> None:
            for number in range(10):
                text = f"{name}{number}"
                if client.search(text).hits[0].doc_id != text:
                    wrong.append(text)

        threads = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and len(server.requests) == 40
        assert server.connections <= 5


def test_a_prefix_of_the_url_is_kept(app: App) -> None:
    with (
        scripted(lambda request: Reply(200, result())) as server,
        Client(f"{server.url}/vespa/", app) as client,
    ):
        client.search("red")
        assert server.requests[0].path == "/vespa/search/"


def test_client_certificates(tmp_path: Path, app: App) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no key")
    with pytest.raises(UsageError, match="a client certificate needs its key too"):
        Client("https://localhost", app, cert=junk)
    with pytest.raises(UsageError, match="expected a PEM file .*: no file "):
        Client("https://localhost", app, cert=tmp_path / "none.pem", key=junk)
    with pytest.raises(UsageError, match="cannot use the client certificate"):
        Client("https://localhost", app, cert=junk, key=junk)


def test_tls_with_a_server_that_does_not_speak_it(app: App) -> None:
    with scripted(lambda request: Reply()) as server:
        with Client(server.url.replace("http:", "https:"), app) as client:
            with pytest.raises(EndpointError, match="TLS with https://.* failed|broke the"):
                client.search("red")


# The application


def test_the_app_of_an_engine(app: App) -> None:
    def script(request: Request) -> Reply:
        if request.path == "/ranker/v1/manifest":
            return Reply(200, app.manifest.to_dict())
        assert request.path == "/ranker/v1/tokenizer"
        return Reply(200, tokenizer_json().encode())

    with scripted(script) as server:
        served = App.of_engine(server.url)
    assert served.manifest == app.manifest
    assert served.encoder.query_ids("red fox") == app.encoder.query_ids("red fox")


def test_an_engine_that_hands_out_another_tokenizer_is_refused(app: App) -> None:
    other = json.loads(tokenizer_json())
    other["model"]["vocab"]["zebra"] = len(other["model"]["vocab"])

    def script(request: Request) -> Reply:
        return Reply(200, app.manifest.to_dict() if request.path.endswith("manifest") else other)

    with (
        scripted(script) as server,
        pytest.raises(SpecMismatch, match="tokenizer.json has the hash"),
    ):
        App.of_engine(server.url)


def test_vespa_is_not_an_embedded_engine(app: App) -> None:
    with scripted(lambda request: Reply(404, {"error-code": "NOT_FOUND"})) as server:
        with pytest.raises(
            ResponseError, match="is not an embedded engine .*name the application package"
        ):
            App.of_engine(server.url)


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an application package"):
        App.open(tmp_path)


def test_importing_the_client_is_light() -> None:
    code = "import sys, ranker.client.search; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "numpy",
        "httpx",
        "urllib3",
        "requests",
        "asyncio",
        "pandas",
        "vespa",
        "httpr",
        "pycurl",
    }
    assert not heavy & set(loaded)
    assert "tokenizers" in loaded


ONLY_THE_CLIENT = """
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"ranker", "tokenizers", "pycurl", "numpy"} | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is not a dependency of the client", name=name)

sys.meta_path.insert(0, Refuse())
from ranker.client.search import App, Client, query_body
app = App.open(sys.argv[1])
with Client("http://localhost:8080", app):
    print(json.dumps(query_body("red fox", app, profile="cross")))
"""


def test_a_client_needs_a_tokenizer_numpy_and_an_http_client_alone(package: Path, app: App) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONLY_THE_CLIENT, package], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == query_body("red fox", app, profile="cross")


def test_ctrl_c_ends_a_request() -> None:
    """libcurl waits where Python cannot see a signal by itself."""
    waiting = threading.Event()

    def script(request: Request) -> Reply:
        waiting.set()
        return Reply(delay=5)

    def press() -> None:
        waiting.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    with scripted(script) as server, Http(Endpoint.of(server.url)) as http:
        presser.start()
        start = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            http.get("/", timeout_s=20)
        assert time.perf_counter() - start < 3
    presser.join()


def proxy_of(monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str = "") -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, no_proxy)


def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(lambda request: Reply(200, {"by": "proxy"})) as proxy:
        proxy_of(monkeypatch, proxy.url)
        with Http(Endpoint.of("http://search.invalid:8080")) as http:
            assert http.get("/state").json() == {"by": "proxy"}
        assert proxy.requests[0].path == "http://search.invalid:8080/state"
        proxy_of(monkeypatch, proxy.url, no_proxy="example.org,search.invalid")
        with Http(Endpoint.of("http://search.invalid:8080")) as http:
            with pytest.raises(EndpointError, match="the host of .* is not known"):
                http.get("/state")
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_never_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with (
        scripted(lambda request: Reply(502, {"message": "the proxy"})) as proxy,
        scripted(lambda request: Reply(200, {})) as server,
    ):
        proxy_of(monkeypatch, proxy.url)
        with Http(Endpoint.of(server.url.replace("127.0.0.1", host))) as http:
            assert http.get("/").status == 200
        assert not proxy.requests


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        proxy_of(monkeypatch, f"http://127.0.0.1:{probe.getsockname()[1]}")
        with Http(Endpoint.of("http://search.invalid:8080")) as http:
            with pytest.raises(EndpointError, match="through the proxy .* name the host in no_pr"):
                http.get("/")


def test_the_client_waits_for_a_slow_search(app: App) -> None:
    with (
        scripted(lambda request: Reply(200, result(), delay=0.3)) as server,
        Client(server.url, app) as client,
    ):
        start = time.perf_counter()
        outcome = client.search(
            "red", timeout_s=0.05
        )  # the server decides; the client waits longer
        assert 0.3 <= outcome.latency_s <= time.perf_counter() - start
