"""Deploying into a running engine: Vespa's clients, bad packages, two models in turn, kills."""

import asyncio
import contextlib
import http.client
import io
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import figures
import httpx
import numpy as np
import pytest
import vespacli
from docker_engine import DockerEngine
from engine_support import (
    EngineProcess,
    encoder_of,
    free_port,
    make_app,
    put_fields,
    query_inputs,
    tiny_logit,
    write_model,
)
from scripted_server import Reply, scripted

from ranker.artifacts.bundle import write_hashes
from ranker.client.search import App, Client
from ranker.deploy import deploy, write_archive
from ranker.engine.vespa_compat.sessions import Sessions
from ranker.errors import EndpointError, ResponseError
from ranker.feed import feed
from ranker.files import read_json, sha256, write_json
from ranker.package.application import Package
from ranker.records import Document

pytestmark = pytest.mark.slow

TENANT = "/application/v2/tenant/default"
DEPLOY = f"{TENANT}/prepareandactivate"
INSTANCE = f"{TENANT}/application/default/environment/prod/region/default/instance/default"
PATH = "/document/v1/ranker/doc/docid/"
OLD, NEW = 0.1, 0.25
"""The cost of a token in each of the two models."""

FOXES = [Document(f"fox{n}", f"red fox {n}", "the quick fox jumps " * (n % 7)) for n in range(60)]
QUESTION = "red fox"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Return a folder of packages: two models, another blend weight, another contract."""
    folder = tmp_path_factory.mktemp("packages")
    make_app(folder / "old", penalty=OLD)
    make_app(folder / "new", penalty=NEW)
    make_app(folder / "heavy", penalty=OLD, blend_weight=7.0)
    make_app(folder / "short", penalty=OLD, document_slots=64)
    return folder


@pytest.fixture(scope="module")
def encoder(packages):
    return encoder_of(packages / "old")


@pytest.fixture
def vespa(tmp_path):
    """Return a function that runs the official CLI and returns exit status and output."""
    home = {"VESPA_CLI_HOME": str(tmp_path / "cli"), "VESPA_CLI_CACHE_DIR": str(tmp_path / "cache")}

    def run(*arguments):
        # The binary itself: the wrapper from PyPI always exits 0.
        done = subprocess.run(
            [vespacli.get_binary_path(), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **home},
        )
        return done.returncode, done.stdout + done.stderr

    return run


@contextlib.contextmanager
def engine(app, data, **options):
    """Run an engine, which the block may kill."""
    process = EngineProcess(app, data, **options)
    try:
        process.wait()
        yield process
    finally:
        process.stop(signal.SIGTERM)


def zipped(app):
    out = io.BytesIO()
    write_archive(app, out)
    return out.getvalue()


def post(url, body, *, path=DEPLOY, kind="application/zip", **parameters):
    return httpx.post(
        url + path, content=body, headers={"Content-Type": kind}, params=parameters, timeout=60
    )


def fed(url, documents=FOXES):
    feed(documents, App.of_engine(url), url).require_complete()


def asked(client, encoder, *, profile="cross", hits=100):
    """Return document id to relevance and bm25."""
    parameters = {
        "yql": "select * from doc where userQuery()",
        "query": QUESTION,
        "ranking": profile,
        "hits": hits,
        "timeout": 20,
        **query_inputs(QUESTION, encoder),
    }
    answer = client.get("/search/", params=parameters)
    assert answer.status_code == 200, answer.text
    return {
        hit["fields"]["doc_id"]: (
            hit["relevance"],
            hit["fields"]["matchfeatures"]["bm25(contents)"],
        )
        for hit in answer.json()["root"].get("children", [])
    }


def model_of(found, encoder, documents):
    """Return the model of these scores: the cost of a token that explains all of them."""
    query = encoder.query_ids(QUESTION)
    costs = set()
    for document in documents:
        ids = encoder.document_ids(document)
        equal = tiny_logit(query, ids) + 0.1 * len(ids)
        costs.add(round((equal - found[document.doc_id][0]) / len(ids), 3))
    assert len(costs) == 1, f"an answer of several models: {costs}"
    return costs.pop()


def served(url, encoder):
    with httpx.Client(base_url=url, timeout=30) as client:
        return model_of(asked(client, encoder), encoder, FOXES)


def generation(url):
    state = httpx.get(f"{url}{INSTANCE}/serviceconverge").json()
    assert state["converged"] is True
    assert state["currentGeneration"] == state["wantedGeneration"]
    assert state["services"][0]["port"] == urlsplit(url).port
    overview = httpx.get(f"{url}/ApplicationStatus").json()
    assert overview["application"]["meta"]["generation"] == state["currentGeneration"]
    return state["currentGeneration"]


def count(url):
    answer = httpx.get(f"{url}/search/", params={"yql": "select * from doc where true", "hits": 0})
    return answer.json()["root"]["fields"]["totalCount"]


# Clients, into an engine that has nothing yet


def test_an_empty_engine_says_so(tmp_path, vespa):
    with engine(None, tmp_path / "data") as empty:
        url = empty.url
        assert httpx.get(f"{url}/status.html").status_code == 200  # the deploy API is there
        assert httpx.get(f"{url}/state/v1/health").json()["status"] == {"code": "initializing"}
        query = httpx.get(f"{url}/search/", params={"yql": "select * from doc where true"})
        assert query.status_code == 503
        assert query.json()["root"]["errors"][0]["message"].startswith("No application is deployed")
        put = httpx.post(f"{url}{PATH}1", json={"fields": {}})
        assert put.status_code == 503 and "No application" in put.json()["message"]
        assert httpx.get(f"{url}/ranker/v1/manifest").status_code == 503
        state = httpx.get(f"{url}{INSTANCE}/serviceconverge")
        assert state.status_code == 404 and state.json()["error-code"] == "NOT_FOUND"
        code, said = vespa("status", "deploy", "-t", url)
        assert code == 0 and "is ready" in said
        assert vespa("status", "deployment", "-t", url)[0] == 1


def test_vespa_deploy(packages, encoder, vespa, tmp_path):
    with engine(None, tmp_path / "data") as started:
        at = ("-t", started.url)
        code, said = vespa("deploy", packages / "old", "--wait", 20, *at)
        assert code == 0 and said.startswith("Success: Deployed"), said
        assert "with session ID 1" in said
        assert "is ready on config generation 1" in vespa("status", "deployment", *at)[1]
        assert "is ready" in vespa("status", *at)[1]
        fed(started.url)
        assert served(started.url, encoder) == OLD
        archive = tmp_path / "new.zip"
        archive.write_bytes(archive_of(packages / "new", entry("security/clients.pem")))
        code, said = vespa("deploy", archive, "--wait", 20, *at)
        assert code == 0 and "with session ID 2" in said
        assert (
            "WARNING security/clients.pem is kept, but the embedded engine does not use it" in said
        )
        assert (served(started.url, encoder), generation(started.url)) == (NEW, 2)
        code, said = vespa("deploy", Path(__file__).parents[2] / "vespa_app", *at)
        assert code == 1 and "manifest.json is missing" in said
        code, said = vespa("deploy", packages / "old", "-a", "some.other.one", *at)
        assert code == 1 and "has one application, 'default.default'" in said
        assert (served(started.url, encoder), generation(started.url)) == (NEW, 2)


@pytest.fixture
def local():
    """Return the port on which Vespa's clients expect a config server by default."""
    try:
        socket.create_server(("127.0.0.1", 19071)).close()
    except OSError:
        pytest.skip("port 19071 is in use")
    return 19071


def test_vespa_without_a_target(packages, encoder, vespa, tmp_path, local):
    """The CLI uses its default ports, the only ones that `prepare` and `activate` know."""
    program = ("ranker.cli", "serve")
    with engine(None, tmp_path / "data", config_port=local, program=program) as started:
        assert httpx.get(f"{started.url}/status.html").status_code == 503
        assert httpx.get(f"{started.url}/ApplicationStatus").status_code == 503
        assert "is ready" in vespa("status", "deploy")[1]
        assert vespa("status")[0] == 1 and vespa("activate")[0] == 1
        assert vespa("deploy", packages / "old", "--wait", 20)[0] == 0
        fed(started.url)
        code, said = vespa("prepare", packages / "new")
        assert code == 0 and "with session 2" in said
        assert (served(started.url, encoder), generation(started.url)) == (OLD, 1)
        code, said = vespa("activate", "--wait", 20)
        assert code == 0 and "Activated application with session 2" in said
        assert (served(started.url, encoder), generation(started.url)) == (NEW, 2)
        code, said = vespa("status")
        assert code == 0 and f"Container default at {started.url} is ready" in said
        code, said = vespa("query", "select * from doc where true", "hits=1")
        assert code == 0 and json.loads(said)["root"]["fields"]["totalCount"] == len(FOXES)


def test_pyvespa_deploys_from_disk(packages, encoder, tmp_path, monkeypatch):
    """pyvespa's Docker class, whose container is an engine on the container's ports."""
    from vespa.deployment import VespaDocker

    with engine(None, tmp_path / "data") as started:
        port = urlsplit(started.url).port

        class Docker(DockerEngine):
            def __call__(self, request):
                path = request.path.split("?")[0]
                if path.endswith("/containers/c1/exec"):
                    assert "/ApplicationStatus" in request.body.decode()
                    return Reply(201, {"Id": "e1"})
                if path.endswith("/exec/e1/start"):
                    code = httpx.head(f"{started.url}/ApplicationStatus").status_code
                    said = f"HTTP/1.1 {code} {http.client.responses[code]}\r\n".encode()
                    frame = b"\x01\0\0\0" + len(said).to_bytes(4, "big") + said
                    # Docker's library reads what follows the head from the bare socket.
                    return Reply(200, frame, close=True, pause=0.3)
                if path.endswith("/exec/e1/json"):
                    return Reply(200, {"ExitCode": 0})
                if path.endswith("/containers/c1/restart"):
                    return Reply(204, b"")
                return super().__call__(request)

        with scripted(Docker(port, there=True)) as docker:
            monkeypatch.setenv("DOCKER_HOST", docker.url.replace("http:", "tcp:"))
            monkeypatch.chdir(tmp_path)
            pyvespa = VespaDocker(port=port, cfgsrv_port=port, output_file=io.StringIO())
            app = pyvespa.deploy_from_disk("ranker", packages / "old")
            assert app.get_application_status().status_code == 200
            fed(started.url)
            assert served(started.url, encoder) == OLD
            with pytest.raises(RuntimeError, match="code: 400, .*manifest.json is missing"):
                pyvespa.deploy_from_disk("ranker", Path(__file__).parents[2] / "vespa_app")


def test_ranker_deploy(packages, tmp_path):
    with engine(None, tmp_path / "data") as started:
        at = {"config_url": started.url, "url": started.url, "poll_s": 0.01}
        deployed = deploy(packages / "old", "server", **at)
        assert deployed.message == "Session 1 for tenant 'default' prepared and activated."
        known = App.of_engine(started.url)
        fed(started.url)
        with Client(started.url, known) as client:
            assert len(client.search(QUESTION, hits=100).hits) == len(FOXES)
        with pytest.raises(ResponseError, match=r"refused .*holds 60 documents .*token contract"):
            deploy(packages / "short", "server", **at)
        again = deploy(packages / "new", "server", **at)
        assert again.message.startswith("Session 2 ")


def test_ranker_deploy_to_an_embedded_engine_that_runs(packages, encoder, tmp_path):
    port, data = free_port(), tmp_path / "data"
    first = deploy(packages / "old", "embedded", data=data, port=port)
    try:
        fed(first.url)
        second = deploy(packages / "new", "embedded", data=data, port=port)
        assert (second.pid, second.url, second.process) == (first.pid, first.url, None)
        assert "Session 2 for tenant 'default' prepared and activated; the emb" in second.message
        assert served(first.url, encoder) == NEW
    finally:
        os.kill(first.pid, signal.SIGTERM)
        assert first.process.wait(20) == 0


# Packages that are refused


@pytest.fixture(scope="module")
def holding(packages, encoder, tmp_path_factory):
    """An engine with the old model and documents; each test leaves it as it was."""
    data = tmp_path_factory.mktemp("holding") / "data"
    with engine(packages / "old", data) as started:
        fed(started.url)
        started.data = data
        yield started


def refused(holding, encoder, body, code, words, *, status=400, **options):
    before = generation(holding.url)
    answer = post(holding.url, body, **options)
    assert (answer.status_code, set(answer.json())) == (status, {"error-code", "message"})
    assert answer.json()["error-code"] == code, answer.text
    assert words in answer.json()["message"], answer.text
    assert "applications" not in answer.json()["message"]  # its own folders are not shown
    assert (served(holding.url, encoder), generation(holding.url)) == (OLD, before)
    assert [path.name for path in (holding.data / "applications").iterdir()] == [str(before)]


@pytest.fixture
def copy(packages, tmp_path):
    """Return a package to spoil."""
    return Path(shutil.copytree(packages / "new", tmp_path / "copy"))


def test_an_application_without_a_package_of_ranker(holding, encoder):
    app = Path(__file__).parents[2] / "vespa_app"
    words = "the package cannot be served: manifest.json is missing"
    refused(holding, encoder, zipped(app), "INVALID_APPLICATION_PACKAGE", words)


def text_of(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def manifest_of(app, **changes):
    values = read_json(app / "manifest.json", what="package")
    write_json(app / "manifest.json", {**values, **changes})


def add(app, name, content="x"):
    (app / name).parent.mkdir(parents=True, exist_ok=True)
    (app / name).write_text(content)


def nan_model(app):
    write_model(app / "files" / "cross_encoder.onnx", Package.open(app).spec, penalty=float("nan"))
    manifest_of(app, model_sha256=sha256(app / "files" / "cross_encoder.onnx"))


def renamed_input(app):
    import onnx

    path = app / "files" / "cross_encoder.onnx"
    model = onnx.load(path)
    model.graph.input[0].name = "something"
    model.graph.node[0].input[1] = "something"
    onnx.save(model, path)
    manifest_of(app, model_sha256=sha256(path))


def no_onnx(app):
    path = app / "files" / "cross_encoder.onnx"
    path.write_bytes(path.read_bytes()[:2000])
    manifest_of(app, model_sha256=sha256(path))


def profile(app, **changes):
    values = read_json(app / "manifest.json", what="package")["profiles"]
    manifest_of(app, profiles=[*values[:3], {**values[3], **changes}])


def other_schema(app):
    (app / "schemas" / "doc").rename(app / "schemas" / "article")
    (app / "schemas" / "doc.sd").rename(app / "schemas" / "article.sd")
    manifest_of(app, schema="article")


SPOILT = {
    "changed": (
        lambda app: text_of(app / "schemas/doc/blend.profile", "2 *", "9 *"), False,
        "served: schemas/doc/blend.profile was changed after it was made",
    ),
    "missing": (
        lambda app: (app / "schemas/doc/blend.profile").unlink(), False,
        "schemas/doc/blend.profile is missing",
    ),
    "a file outside": (
        lambda app: write_json(app / "hashes.json", {"../../documents.sqlite": "x"}), False,
        "../../documents.sqlite is missing",
    ),
    "no onnx": (no_onnx, True, "cannot be loaded by ONNX Runtime"),
    "not the model": (
        lambda app: (app / "files/cross_encoder.onnx").write_bytes(b"x"), True,
        "files/cross_encoder.onnx is not the model that manifest.json names",
    ),
    "nan": (nan_model, True, "gives [nan, nan] where logits are expected"),
    "inputs": (renamed_input, True, "does not score a pair (KeyError: 'something'); expected the"),
    "tokenizer": (
        lambda app: text_of(app / "files/tokenizer.json", '"fox"', '"fix"'), True,
        "tokenizer.json has the hash ",
    ),
    "other schema": (other_schema, True, "belongs to the schema doc, this application has article"),
    "field": (
        lambda app: text_of(app / "schemas/doc.sd", "field title type", "field headline type"),
        True, "expects the field headline to be absent, got string",
    ),
    "two schemas": (
        lambda app: add(app, "schemas/other.sd"), True, "expected one schema, schemas/doc.sd, got",
    ),
    "unknown profile": (
        lambda app: add(app, "schemas/doc/mine.profile"), False,
        "schemas/doc/mine.profile is not from `ranker package`",
    ),
    "unlisted profile": (
        lambda app: add(app, "schemas/doc/mine.profile"), True,
        "expected a file for each rank profile of manifest.json",
    ),
    "weight": (
        lambda app: profile(app, logit_weight="big"), True,
        "logit_weight of the profile 'blend' must be a number, got 'big'",
    ),
    "phase": (
        lambda app: profile(app, phase="third"), True,
        "phase of the profile 'blend' cannot be 'third'",
    ),
    "names": (
        lambda app: manifest_of(app, schema="../x", timeout_s=0, token_field="tok"), True,
        "schema must be a word, got '../x'; token_field must be 'doc_token_ids', got 'tok'; tim",
    ),
    "no json": (
        lambda app: add(app, "manifest.json", "{"), True, "manifest.json is damaged: not JSON",
    ),
    "deep json": (
        lambda app: add(app, "manifest.json", "[" * 100_000), True, "RecursionError",
    ),
    "plugin": (
        lambda app: (add(app, "ext/ranker/mine.json", "{}"), (app / "manifest.json").unlink()),
        False, "runs packages of `ranker package --out` only",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_package_that_cannot_be_served(holding, encoder, copy, name):
    spoil, sealed, words = SPOILT[name]
    spoil(copy)
    if sealed:
        write_hashes(copy)
    refused(holding, encoder, zipped(copy), "INVALID_APPLICATION_PACKAGE", words)


def test_another_contract_needs_an_engine_without_documents(holding, encoder, packages):
    ours, theirs = (Package.open(packages / name).spec.fingerprint for name in ("old", "short"))
    words = (
        f"holds 60 documents and belongs to the token contract {ours}, this application has "
        f"{theirs}; remove the documents first or use another --data folder, then feed again"
    )
    body = zipped(packages / "short")
    answer = post(holding.url, body)
    assert words in answer.json()["message"] and answer.status_code == 400
    assert served(holding.url, encoder) == OLD


def entry(name, *, kind=0, content=b"x"):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = kind << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info, content


def archive_of(app, *more, declare=None):
    """Return a package's zip file with more entries, or with wrong sizes in its directory."""
    out = io.BytesIO(zipped(app))
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        for info, content in more:
            archive.writestr(info, content)
        for name, size in (declare or {}).items():
            archive.getinfo(name).file_size = size
        archive._didModify = True
    return out.getvalue()


def hostile(app):
    """Yield zip files that no client makes, each after the words of its refusal."""
    whole = zipped(app)
    zeros = b"\0" * 20_000_000
    yield "package, got '../evil'", archive_of(app, entry("../evil"))
    yield "package, got 'files/../../evil'", archive_of(app, entry("files/../../evil"))
    yield "package, got '/tmp/evil'", archive_of(app, entry("/tmp/evil"))
    yield "package, got 'files\\evil'", archive_of(app, entry("files\\evil"))
    yield (
        "files/evil is a symbolic link",
        archive_of(app, entry("files/evil", kind=stat.S_IFLNK | 0o777, content=b"/etc/passwd")),
    )
    yield "files/evil is not a plain file", archive_of(app, entry("files/evil", kind=stat.S_IFIFO))
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive_of(app, entry("services.xml"))
    yield "holds the entry services.xml twice", twice
    yield "cannot unpack the zip file", archive_of(app, entry("services.xml/x"))
    yield "cannot unpack the zip file: File name too long", archive_of(app, entry("n" * 300))
    yield "at most 1000 files, got 1012", archive_of(app, *(entry(f"n{n}") for n in range(1000)))
    yield (
        "too large: files other than the model unpack to 3",
        archive_of(app, declare={"files/tokenizer.json": 3 << 30}),
    )
    yield (
        "too large: ONNX files unpack to 9",
        archive_of(app, declare={"files/cross_encoder.onnx": 9 << 30}),
    )
    bomb = archive_of(app, entry("files/x.json", content=zeros), declare={"files/x.json": 10})
    assert len(bomb) < len(whole) + 100_000
    yield "got an unreadable one: Bad CRC-32", bomb
    yield "got an unreadable one", whole[: len(whole) // 2]
    yield "got an unreadable one", b"PK\x03\x04 and then nothing of a zip file"
    yield "got an unreadable one", whole.replace(b"PK\x05\x06", b"PK\x05\x07")
    yield "the body is empty; expected a zip file", b""


def test_zip_files_that_are_refused(holding, encoder, copy):
    tried = 0
    for words, body in hostile(copy):
        refused(holding, encoder, body, "BAD_REQUEST", words)
        tried += 1
    assert tried == 17
    evil = [Path("/tmp/evil"), *holding.data.parent.rglob("*evil*")]
    assert not any(path.exists() for path in evil)
    figures.record("deploy", f"{tried + len(SPOILT)} packages refused, each with its reason")


def test_a_bomb_with_a_legal_name_is_refused(holding, encoder, copy):
    """A file that the hashes do not list is refused even if its declared size is small."""
    body = archive_of(copy, entry("files/x.json", content=b"\0" * 20_000_000))
    words = "files/x.json is not from `ranker package`"
    refused(holding, encoder, body, "INVALID_APPLICATION_PACKAGE", words)


def test_requests_that_are_not_deployments(holding, encoder, packages):
    body = zipped(packages / "new")
    for options, status, code, words in (
        (
            {"kind": "application/x-gzip"},
            400,
            "BAD_REQUEST",
            "application/zip, got application/x-gzip",
        ),
        ({"kind": ""}, 400, "BAD_REQUEST", "expected the Content-Type application/zip, got none"),
        ({"instance": "beta"}, 400, "BAD_REQUEST", "one application, 'default.default'"),
        ({"dryRun": "true"}, 400, "BAD_REQUEST", "dryRun and from are not supported"),
        ({"path": f"{TENANT}/nothing"}, 404, "NOT_FOUND", f"nothing at {TENANT}/nothing"),
        (
            {"path": DEPLOY.replace("default", "me")},
            404,
            "NOT_FOUND",
            "tenant/me/prepareandactivate; the tenant is 'default'",
        ),
        ({"path": f"{TENANT}/session/9/active"}, 405, "METHOD_NOT_ALLOWED", "expected PUT"),
    ):
        refused(holding, encoder, body, code, words, status=status, **options)


def test_a_body_that_is_cut_off(holding, encoder, packages):
    body = zipped(packages / "new")
    host, port = urlsplit(holding.url).hostname, urlsplit(holding.url).port
    head = f"POST {DEPLOY} HTTP/1.1\r\nHost: x\r\nContent-Type: application/zip\r\n"
    before = generation(holding.url)
    for more, part in (
        (f"Content-Length: {len(body)}\r\n\r\n", body[:-100]),
        ("Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % len(body) + body[:-100]),
        ("Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(body) - 9, body[:-9])),
    ):
        with socket.create_connection((host, port)) as connection:
            connection.sendall((head + more).encode() + part)
    # A whole one after them waits its turn, so they are all dealt with.
    assert post(holding.url, b"x").status_code == 400
    folder = holding.data / "applications"
    end = time.monotonic() + 10
    while [path.name for path in folder.iterdir()] != [str(before)] and time.monotonic() < end:
        time.sleep(0.01)
    assert [path.name for path in folder.iterdir()] == [str(before)]
    assert (served(holding.url, encoder), generation(holding.url)) == (OLD, before)


def test_a_full_disk(holding, encoder, copy):
    """A limit on file sizes refuses the upload, then only the files that it contains."""
    bomb = archive_of(copy, entry("files/x.json", content=b"\0" * 20_000_000))
    before = generation(holding.url)
    for body, limit, code in ((zipped(copy), 8192, 500), (bomb, len(bomb) + 8192, 400)):
        ends = resource.prlimit(holding.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(holding.process.pid, resource.RLIMIT_FSIZE, (limit, ends[1]))
        try:
            answer = post(holding.url, body)
        finally:
            resource.prlimit(holding.process.pid, resource.RLIMIT_FSIZE, ends)
        assert answer.status_code == code, answer.text
        assert answer.json()["message"].endswith(
            "File too large; make room there, or name another place"
        )
        assert [path.name for path in (holding.data / "applications").iterdir()] == [str(before)]
    assert (served(holding.url, encoder), generation(holding.url)) == (OLD, before)


# Sessions


def test_sessions(packages, encoder, tmp_path):
    with engine(None, tmp_path / "data") as started:
        url = started.url

        def put(number, step):
            answer = httpx.put(f"{url}{TENANT}/session/{number}/{step}", timeout=30)
            return answer.status_code, answer.json()

        def created(name):
            answer = post(url, zipped(packages / name), path=f"{TENANT}/session")
            assert answer.status_code == 200
            said = answer.json()
            assert said["prepared"] == f"{url}{TENANT}/session/{said['session-id']}/prepared"
            return int(said["session-id"])

        assert put(1, "prepared")[0] == 404
        assert created("old") == 1
        assert put(1, "active") == (
            400, {"error-code": "BAD_REQUEST", "message": "session 1 is not prepared yet"}
        )  # fmt: skip
        status, said = put(1, "prepared")
        assert status == 200 and said["activate"] == f"{url}{TENANT}/session/1/active"
        assert said["configChangeActions"] == {"restart": [], "refeed": [], "reindex": []}
        assert put(1, "active")[1]["url"] == url + INSTANCE
        fed(url)
        assert [created("new"), created("heavy"), created("short")] == [2, 3, 4]
        assert [put(n, "prepared")[0] for n in (2, 3)] == [200, 200]
        status, said = put(4, "prepared")
        assert (status, said["error-code"]) == (400, "INVALID_APPLICATION_PACKAGE")
        assert (served(url, encoder), generation(url)) == (OLD, 1)
        assert put(3, "active")[0] == 200
        assert put(3, "prepared") == (
            400, {"error-code": "BAD_REQUEST", "message": "session 3 is already active"}
        )  # fmt: skip
        status, said = put(2, "active")
        assert (status, said["error-code"]) == (409, "ACTIVATION_CONFLICT")
        assert put(9, "active")[0] == 404
        known = httpx.get(f"{url}{TENANT}/application/default").json()
        assert known["generation"] == generation(url) == 3


def test_sessions_that_wait_are_few_and_outlive_a_restart(packages, tmp_path):
    sessions = Sessions(tmp_path / "applications", None)
    numbers = [sessions.create_from(packages / "old") for _ in range(7)]
    assert numbers == [1, 2, 3, 4, 5, 6, 7]
    sessions.prepared(6)
    (tmp_path / "applications" / "unpacked-x").mkdir()
    again = Sessions(tmp_path / "applications", 4)
    there = {path.name for path in (tmp_path / "applications").iterdir()}
    assert there == {"4.new", "5.new", "6", "7.new"}
    assert again.create_from(packages / "new") == 8
    assert sha256(again.created(8) / "manifest.json") == sha256(packages / "new/manifest.json")


# One model after the other, under load


class Load:
    """Threads that feed and query all the time, and what they saw."""

    def __init__(self, url, encoder):
        self.url, self.encoder = url, encoder
        self.models, self.weights, self.failures = Counter(), Counter(), []
        self.fed, self.operations = set(), 0
        self._stop = threading.Event()
        work = [self._ask, self._ask, self._blend, self._feed, self._feed]
        self._threads = [threading.Thread(target=self._run, args=(one, n)) for n, one in
                         enumerate(work)]  # fmt: skip

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, work, number):
        with httpx.Client(base_url=self.url, timeout=30) as client:
            for step in itertools.count():
                if self._stop.is_set():
                    return
                try:
                    work(client, f"{number}-{step}")
                except Exception as error:  # reported by the test
                    self.failures.append(repr(error)[:500])
                    return

    def _ask(self, client, _):
        self.models[model_of(asked(client, self.encoder), self.encoder, FOXES)] += 1

    def _blend(self, client, _):
        """The weight of the blend in an answer: another part of the package than the model."""
        query, weights = self.encoder.query_ids(QUESTION), set()
        found = asked(client, self.encoder, profile="blend")
        old = {d.doc_id: tiny_logit(query, self.encoder.document_ids(d)) for d in FOXES}
        length = {d.doc_id: len(self.encoder.document_ids(d)) for d in FOXES}
        for cost, weight in ((OLD, 2.0), (NEW, 2.0), (OLD, 7.0)):
            logits = {id_: old[id_] + (OLD - cost) * length[id_] for id_ in old}
            if all(abs(r - b - weight * logits[id_]) < 1e-3 for id_, (r, b) in found.items()):
                weights.add((cost, weight))
        assert len(weights) == 1, f"an answer of {len(weights)} packages"
        self.weights[weights.pop()] += 1

    def _feed(self, client, step):
        document = Document(f"stone{step}", f"blue stone {step}", "river " * (len(step) % 5))
        body = {"fields": put_fields(document, self.encoder)}
        answer = client.post(PATH + document.doc_id, json=body)
        assert answer.status_code == 200, answer.text
        self.fed.add(document.doc_id)
        self.operations += 1
        if self.operations % 10 == 0:
            assert client.delete(PATH + document.doc_id).status_code == 200
            self.fed.discard(document.doc_id)


def memory_and_threads(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values["VmRSS"].split()[0]) / 1024, int(values["Threads"])


def test_two_models_in_turn_under_load(packages, encoder, vespa, tmp_path):
    turns = ["new", "old", "heavy", "old"] * 2
    expected = {"old": (OLD, 2.0), "new": (NEW, 2.0), "heavy": (OLD, 7.0)}
    with engine(packages / "old", tmp_path / "data") as started:
        url = started.url
        fed(url)
        with Load(url, encoder) as load:
            for number, name in enumerate(turns, start=2):
                code, said = vespa("deploy", packages / name, "--wait", 20, "-t", url)
                assert code == 0 and f"session ID {number}" in said, said
                assert served(url, encoder) == expected[name][0]  # at once
                assert generation(url) == number
                if number == 5:
                    _, threads = memory_and_threads(started.process.pid)
                time.sleep(0.1)
        assert load.failures == []
        assert set(load.models) == {OLD, NEW} and set(load.weights) == set(expected.values())
        assert count(url) == len(FOXES) + len(load.fed)
        visited = set()
        page = {"wantedDocumentCount": 1000, "fieldSet": "doc:doc_id", "cluster": "content"}
        while True:
            answer = httpx.get(f"{url}/document/v1/", params=page).json()
            visited |= {one["fields"]["doc_id"] for one in answer["documents"]}
            if "continuation" not in answer:
                break
            page["continuation"] = answer["continuation"]
        assert visited == load.fed | {document.doc_id for document in FOXES}
        # The models that are no longer served have been given back.
        assert memory_and_threads(started.process.pid)[1] <= threads + 2
        metrics = httpx.get(f"{url}/metrics/v2/values").text
        assert f'"ranker.documents_POST.last":{load.operations + len(FOXES)}' in metrics
    figures.record(
        "deploy",
        f"{len(turns)} deployments by the vespa CLI under load: "
        f"{sum(load.models.values()) + sum(load.weights.values())} queries answered, each by one "
        f"package; {load.operations} documents fed meanwhile, none lost",
    )


def test_a_query_that_has_begun_ends_with_its_model(packages, encoder, tmp_path):
    """Many slow queries are in progress each time the model changes."""
    with engine(packages / "old", tmp_path / "data") as started:
        long = [Document(f"fox{n}", "red fox", "quick fox jumps " * 40) for n in range(400)]
        fed(started.url, long)
        found = []

        def ask():
            with httpx.Client(base_url=started.url, timeout=60) as client:
                parameters = {"ranking.secondPhase.rerankCount": 400, "hits": 400}
                answer = client.get(
                    "/search/",
                    params={
                        "yql": "select * from doc where userQuery()",
                        "query": QUESTION,
                        "ranking": "cross",
                        "timeout": 60,
                        **parameters,
                        **query_inputs(QUESTION, encoder),
                    },
                )
                hits = answer.json()["root"]["children"]
                found.append((len(hits), len({hit["relevance"] for hit in hits})))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for number, thread in enumerate(threads):
            thread.start()
            if number % 4 == 3:
                name = "new" if number % 8 == 3 else "old"
                assert post(started.url, zipped(packages / name)).status_code == 200
        for thread in threads:
            thread.join()
        assert found == [(400, 1)] * 12  # equal documents, one score


def test_another_contract_waits_for_the_requests_of_the_old_one(packages, tmp_path, monkeypatch):
    from ranker.engine.vespa_compat import application_server as module
    from ranker.engine.vespa_compat.admission import admit

    monkeypatch.setattr(module, "DRAIN_S", 0.05)

    async def run():
        server = module.ApplicationServer(tmp_path, empty=None)
        try:
            server.start(server.load(admit(packages / "old"), 1))
            before, other = server.active, server.load(admit(packages / "short"), 2)
            before.requests = 1  # a client that does not finish its body
            with pytest.raises(EndpointError, match="still being answered after 0.05 s; deploy ag"):
                await server.activate(other)
            assert server.active is before and server.session == 1
            before.requests = 0
            await server.activate(other)
            assert server.active is other and server.session == 2
        finally:
            server.close()

    asyncio.run(run())


def test_another_contract_after_the_documents_are_gone(packages, encoder, tmp_path):
    short = encoder_of(packages / "short")
    with engine(packages / "old", tmp_path / "data") as started:
        fed(started.url, FOXES[:3])
        assert post(started.url, zipped(packages / "short")).status_code == 400
        for document in FOXES[:3]:
            assert httpx.delete(f"{started.url}{PATH}{document.doc_id}").status_code == 200
        assert post(started.url, zipped(packages / "short")).status_code == 200
        body = {"fields": put_fields(FOXES[0], encoder)}
        answer = httpx.post(f"{started.url}{PATH}1", json=body)
        assert answer.status_code == 400
        fed(started.url, FOXES[:5])
        with httpx.Client(base_url=started.url) as client:
            assert model_of(asked(client, short), short, FOXES[:5]) == OLD
        assert post(started.url, zipped(packages / "old")).status_code == 400
    with engine(None, tmp_path / "data") as again:
        with httpx.Client(base_url=again.url) as client:
            assert model_of(asked(client, short), short, FOXES[:5]) == OLD


# Restarts


def test_the_last_deployment_is_served_after_a_restart(packages, encoder, tmp_path):
    data = tmp_path / "data"
    with engine(packages / "old", data) as started:
        fed(started.url)
        assert post(started.url, zipped(packages / "new")).status_code == 200
    with engine(None, data) as again:
        assert (served(again.url, encoder), generation(again.url)) == (NEW, 2)
    # The same command line, as a supervisor repeats it, does not undo what was deployed since.
    with engine(packages / "old", data) as again:
        assert (served(again.url, encoder), generation(again.url)) == (NEW, 2)
        assert "start with --deploy, or deploy it" in again.log.read_text()
    # A package that this engine was not started with before is a deployment.
    with engine(packages / "heavy", data) as again:
        assert (served(again.url, encoder), generation(again.url)) == (OLD, 3)
    deployed = deploy(packages / "new", "embedded", data=data, port=free_port())
    assert (served(deployed.url, encoder), generation(deployed.url)) == (NEW, 4)
    os.kill(deployed.pid, signal.SIGTERM)
    assert deployed.process.wait(20) == 0
    # What it serves is its own: the folder that it was started with may go.
    model = data / "applications" / "4" / "files" / "cross_encoder.onnx"
    model.unlink()
    model.write_bytes(b"x")
    broken = EngineProcess(None, data)
    assert broken.process.wait(20) == 1
    said = broken.log.read_text()
    assert "the application that was deployed last cannot be served: " in said
    assert "cross_encoder.onnx was changed" in said and "Traceback" not in said


def padded(app, megabytes):
    """Make a package so large that a deployment can be killed half-way."""
    import onnx
    from onnx import numpy_helper

    path = app / "files" / "cross_encoder.onnx"
    model = onnx.load(path)
    noise = np.random.default_rng(7).integers(0, 255, megabytes << 20).astype(np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(noise, "noise"))
    onnx.save(model, path)
    manifest_of(app, model_sha256=sha256(path))
    write_hashes(app)
    return zipped(app)


def test_a_kill_in_a_deployment_leaves_the_old_or_the_new(encoder, packages, tmp_path):
    data, moments = tmp_path / "data", (0.1, 0.3, 0.5, 0.7, 0.9, None)
    kills = len(moments)
    names = {OLD: "old", NEW: "new"}
    bodies = {
        cost: padded(Path(shutil.copytree(packages / name, tmp_path / name)), 16)
        for cost, name in names.items()
    }
    with engine(packages / "old", data) as started:
        fed(started.url)
        start = time.monotonic()
        assert post(started.url, bodies[OLD]).status_code == 200
        took = time.monotonic() - start
    now, left, answers = OLD, Counter(), []
    for kill in range(kills + 1):
        with engine(None, data) as started:
            found = served(started.url, encoder)
            assert count(started.url) == len(FOXES)
            assert found in bodies and (found != now or not answers)  # an answer is a promise
            names = [path.name for path in (data / "applications").iterdir()]
            assert str(generation(started.url)) in names
            assert not [name for name in names if name.startswith(("upload", "unpacked"))]
            left["old" if found == now else "new"] += kill > 0
            if kill == kills:
                break
            now, answers = found, []

            def send(url=started.url, body=bodies[NEW if found == OLD else OLD], to=answers):
                with contextlib.suppress(httpx.HTTPError):
                    to.append(post(url, body).status_code)

            thread = threading.Thread(target=send)
            thread.start()
            if (moment := moments[kill]) is None:
                thread.join()  # killed at once when it has answered
            else:
                time.sleep(took * moment)
            started.process.kill()
            started.process.wait()
            thread.join()
    assert left["new"] >= 1 and sum(left.values()) == kills
    figures.record(
        "deploy",
        f"{kills} kills (SIGKILL) in a deployment left the old application {left['old']} times, "
        f"the new one {left['new']} times, a half never; {len(FOXES)} documents there each time",
    )
