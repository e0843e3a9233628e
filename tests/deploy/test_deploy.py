"""The archive, the targets by their recorded protocols, and the embedded engine."""

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import certificates
from docker_engine import DockerEngine
from engine_support import free_port, make_app
from scripted_server import DROP, Reply, Request, ScriptedServer, scripted

from ranker.client.search import App, Client
from ranker.deploy import Deployment, deploy, deploy_server, write_archive
from ranker.errors import ArtifactError, EndpointError, ResponseError, UsageError
from ranker.feed import feed
from ranker.records import Document

INSTANCE = (
    "/application/v2/tenant/default/application/default/environment/prod/region/default/"
    "instance/default"
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app(tmp_path_factory.mktemp("deploy") / "app")


@pytest.fixture
def empty_cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that must stay empty."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert not [path for path in folder.iterdir() if path.name != ".vespa"]


# The archive


def test_the_archive_holds_the_package(app: Path) -> None:
    out = io.BytesIO()
    names = write_archive(app, out)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == names == sorted(names)
        for name in names:
            assert archive.read(name) == (app / name).read_bytes()
    on_disk = {path.relative_to(app).as_posix() for path in app.rglob("*") if path.is_file()}
    assert set(names) == on_disk
    for needed in ("services.xml", "schemas/doc.sd", "schemas/doc/blend.profile",
                   "files/cross_encoder.onnx", "search/query-profiles/types/root.xml"):  # fmt: skip
        assert needed in names


def test_the_archive_is_the_same_every_time(app: Path, tmp_path: Path) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    write_archive(app, first)
    for path in app.rglob("*"):
        os.utime(path, (1, 1_000_000_000))
    write_archive(app, second)
    assert first.getvalue() == second.getvalue()


def test_hidden_files_are_left_out_and_extra_files_added(app: Path, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    (folder / "files" / ".cache").mkdir(parents=True)
    (folder / "services.xml").write_text("<services/>")
    (folder / ".DS_Store").write_text("x")
    (folder / "files" / ".cache" / "x").write_text("x")
    out = io.BytesIO()
    extra = {"security/clients.pem": b"pem", "services.xml": b"other"}
    assert write_archive(folder, out, extra=extra) == ["security/clients.pem", "services.xml"]
    with zipfile.ZipFile(out) as archive:
        assert archive.read("services.xml") == b"other"


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an application package: services.xml is miss"):
        write_archive(tmp_path, io.BytesIO())


def test_targets_and_options(app: Path) -> None:
    with pytest.raises(
        UsageError, match="unknown target 'moon'; expected one of: embedded, docker"
    ):
        deploy(app, "moon")
    with pytest.raises(UsageError, match="the target server has no option data, tenant; it has: c"):
        deploy(app, "server", data=Path("x"), tenant="y")
    with pytest.raises(UsageError, match="the target embedded needs data"):
        deploy(app, "embedded")
    with pytest.raises(UsageError, match="the target cloud needs tenant and application"):
        deploy(app, "cloud", tenant=None)


# A running Vespa, by its recorded protocol


class ConfigServer:
    """A config server (https://docs.vespa.ai/en/reference/api/deploy-v2.html) and the container."""

    def __init__(self, *, prepare: Reply | None = None, slow: int = 0) -> None:
        self.prepare = prepare
        self.slow = slow
        self.generation = 1
        self.url = ""

    def __call__(self, request: Request) -> Reply:
        path = request.path
        if path == "/state/v1/health":
            return Reply(200, {"status": {"code": "up"}})
        if path == "/application/v2/tenant/default/prepareandactivate":
            return self.prepare or self._activate()
        if path == f"{INSTANCE}/serviceconverge":
            if self.slow:
                self.slow -= 1
                return Reply(200, self._state(converged=False))
            self.generation = 2
            return Reply(200, self._state(converged=True))
        if path == "/ApplicationStatus":
            return Reply(200, {"application": {}}) if self.generation == 2 else Reply(503)
        return Reply(404, {"error-code": "NOT_FOUND", "message": path})

    def _activate(self) -> Reply:
        logged = [
            {"time": 1, "level": "WARNING", "message": "host named foo\nmay not", "x": True},
            {"time": 2, "level": "INFO", "message": "nothing"},
        ]
        return Reply(
            200,
            {
                "log": logged,
                "message": "Session 2 for tenant 'default' prepared and activated.",
                "session-id": "2",
                "activated": True,
                "tenant": "default",
                "url": f"http://somewhere-else:19071{INSTANCE}",
                "configChangeActions": {
                    "restart": [],
                    "refeed": [],
                    "reindex": [{"name": "indexing-change", "messages": ["Field 'contents': new"]}],
                },
            },
        )

    def _state(self, *, converged: bool) -> dict[str, Any]:
        return {
            "services": [{"type": "container", "port": 8080, "clusterName": "default"}],
            "currentGeneration": 2 if converged else 1,
            "wantedGeneration": 2,
            "converged": converged,
        }


def at(server: ScriptedServer) -> dict[str, Any]:
    return {"config_url": server.url, "url": server.url, "poll_s": 0.01}


def test_a_deployment(app: Path, empty_cwd: Path) -> None:
    lines: list[str] = []
    with scripted(ConfigServer(slow=2)) as server:
        deployed = deploy(app, "server", on_progress=lines.append, **at(server))
        url = server.url
    assert deployed == Deployment(
        target="server",
        url=url,
        message="Session 2 for tenant 'default' prepared and activated.",
        warnings=(
            "WARNING: host named foo may not",
            "reindex needed: Field 'contents': new",
        ),
    )
    assert [(r.method, r.path) for r in server.requests] == [
        ("POST", "/application/v2/tenant/default/prepareandactivate"),
        *[("GET", f"{INSTANCE}/serviceconverge")] * 3,
        ("GET", "/ApplicationStatus"),
    ]
    sent = server.requests[0]
    expected = io.BytesIO()
    write_archive(app, expected)
    assert sent.headers["content-type"] == "application/zip"
    assert sent.body == expected.getvalue()
    assert "waiting for the services: generation 1, wanted 2" in lines
    assert deployed.warnings[0] in lines and deployed.message in lines
    size = len(sent.body) / 1e6
    assert f"sent {size:.1f} of {size:.1f} MB" in lines
    assert json.loads(json.dumps(deployed.to_dict()))["warnings"] == list(deployed.warnings)


VESPA_SAYS = (
    "Invalid application: In schema 'doc', rank profile 'cross': The function 'f' is invalid"
)


@pytest.mark.parametrize(
    ("reply", "message", "status"),
    [
        (
            Reply(400, {"error-code": "INVALID_APPLICATION_PACKAGE", "message": VESPA_SAYS}),
            f"refused the application \\(INVALID_APPLICATION_PACKAGE\\): {VESPA_SAYS}$",
            400,
        ),
        (
            Reply(
                400,
                {
                    "error-code": "INVALID_APPLICATION_PACKAGE",
                    "message": "a:\n b",
                    "log": [{"level": "WARNING", "message": "field x"}],
                },
            ),
            r": a: b \(it also logged: WARNING: field x\)$",
            400,
        ),
        (
            Reply(409, {"error-code": "ACTIVATION_CONFLICT", "message": "session 3 is newer"}),
            r"\(ACTIVATION_CONFLICT\): session 3 is newer",
            409,
        ),
        (Reply(500, {"message": "null"}), r"\(HTTP 500\): null", 500),
        (Reply(503, b"<html>busy</html>"), "expected JSON from .* HTTP 503 with '<html>busy", 503),
        (Reply(200, [1]), r"\(HTTP 200\): \[1\]", 200),
    ],
)
def test_vespa_refuses(app: Path, empty_cwd: Path, reply: Reply, message: str, status: int) -> None:
    with scripted(ConfigServer(prepare=reply)) as server:
        with pytest.raises(ResponseError, match=message) as caught:
            deploy_server(app, **at(server))
        assert caught.value.status == status and "\n" not in str(caught.value)
        assert len(server.requests) == 1  # neither sent again nor waited for


def test_a_refusal_before_the_end_of_the_upload_is_read(app: Path) -> None:
    """A real server answers 413 or 401 and closes before it has read hundreds of megabytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            body = b'{"error-code":"BAD_REQUEST","message":"too large"}'
            head = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)
            time.sleep(0.2)
            connection.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(EndpointError, match="too large|broke the connection"):
            deploy_server(app, config_url=url)
        thread.join()


def test_services_that_do_not_switch_to_the_application(app: Path) -> None:
    with scripted(ConfigServer(slow=10**6)) as server:
        with pytest.raises(
            EndpointError, match=r"not switch to it in time \(generation 1, wanted 2"
        ):
            deploy_server(app, wait_s=0.1, **at(server))


def test_a_container_that_does_not_start(app: Path) -> None:
    with scripted(ConfigServer()) as server, scripted(lambda request: DROP) as down:
        with pytest.raises(
            EndpointError, match=f"the container at {down.url} does not answer /App"
        ):
            deploy_server(app, config_url=server.url, url=down.url, wait_s=0.1, poll_s=0.01)


def test_no_config_server(app: Path) -> None:
    with pytest.raises(EndpointError, match="nothing answers at http://127.0.0.1:"):
        deploy_server(app, config_url=f"http://127.0.0.1:{free_port()}")


def test_a_changed_package_is_not_sent(app: Path, tmp_path: Path) -> None:
    changed = make_app(tmp_path / "changed")
    with (changed / "files" / "cross_encoder.onnx").open("ab") as model:
        model.write(b"x")
    with scripted(ConfigServer()) as server:
        with pytest.raises(ArtifactError, match="cross_encoder.onnx was changed"):
            deploy_server(changed, **at(server))
        assert not server.requests


# Docker, by the protocol of its engine


@pytest.mark.parametrize(("there", "running"), [(False, False), (True, False), (True, True)])
def test_docker(
    app: Path, empty_cwd: Path, monkeypatch: pytest.MonkeyPatch, there: bool, running: bool
) -> None:
    pytest.importorskip("docker")
    lines: list[str] = []
    with scripted(ConfigServer()) as vespa:
        engine = DockerEngine(int(vespa.url.rsplit(":", 1)[1]), there=there, running=running)
        with scripted(engine) as docker:
            monkeypatch.setenv("DOCKER_HOST", docker.url.replace("http:", "tcp:"))
            deployed = deploy(
                app, "docker", port=18080, config_port=19099, on_progress=lines.append
            )
            asked = [(r.method, r.path.split("?")[0].split("/", 2)[-1]) for r in docker.requests]
    assert (deployed.target, deployed.url) == ("docker", vespa.url)
    assert deployed.message.endswith("stop it with: docker stop ranker")
    assert ("POST", "containers/create") in asked or there
    assert (("POST", "containers/c1/start") in asked) == (not running)
    assert "/application/v2/tenant/default/prepareandactivate" in {r.path for r in vespa.requests}
    if not there:
        assert engine.created["Image"] == "vespaengine/vespa:8"
        bindings = engine.created["HostConfig"]["PortBindings"]
        assert bindings["8080/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "18080"}]
        assert bindings["19071/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "19099"}]


def test_docker_that_does_not_answer(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")
    with pytest.raises(EndpointError, match="Docker does not answer .*use the target") as caught:
        deploy(app, "docker")
    assert "\n" not in str(caught.value)


def test_docker_refuses(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("docker")

    def script(request: Request) -> Reply:
        if request.path.endswith("/version"):
            return Reply(200, {"ApiVersion": "1.44"})
        if "/containers/create" in request.path:
            return Reply(409, {"message": "port is already allocated"})
        return Reply(404, {"message": "No such container: ranker"})

    with scripted(script) as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.url.replace("http:", "tcp:"))
        with pytest.raises(EndpointError, match="Docker refused: port is already allocated"):
            deploy(app, "docker")


# Vespa Cloud, by the requests that pyvespa sends

DEPLOY = "/application/v4/tenant/acme/application/shop/instance/default/deploy/dev-aws-us-east-1c"
RUN = "/application/v4/tenant/acme/application/shop/instance/default/job/dev-aws-us-east-1c/run/7"


@pytest.fixture
def cloud_key(empty_cwd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An API key; a data-plane certificate where pyvespa looks first; no `vespa` on the path."""
    pytest.importorskip("vespa")
    certificates(tmp_path)
    identity = empty_cwd / ".vespa"
    identity.mkdir()
    (tmp_path / "client.pem").rename(identity / "data-plane-public-cert.pem")
    (tmp_path / "client.key").rename(identity / "data-plane-private-key.pem")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return tmp_path / "server.key"


class Cloud:
    """The part of Vespa Cloud's control plane that a dev deployment needs, and the container."""

    def __init__(self, *, status: str = "success", deploy: Reply | None = None) -> None:
        self.status, self.deploy, self.url = status, deploy, ""
        self.polls = 0

    def __call__(self, request: Request) -> Reply:
        path = request.path.split("?")[0]
        if (request.method, path) == ("POST", DEPLOY):
            return self.deploy or Reply(200, {"message": "Deployment started in run 7", "run": 7})
        if path == RUN:
            self.polls += 1
            entry = {"at": 0, "type": "warning", "message": "quota is low"}
            log = {"deployReal": [entry]} if self.polls == 1 else {}
            running = self.polls < 2
            status = "running" if running else self.status
            return Reply(200, {"active": running, "status": status, "log": log, "lastId": 1})
        if path.endswith("/environment/dev/region/aws-us-east-1c"):
            endpoint = {"cluster": "default", "authMethod": "mtls", "url": f"{self.url}/"}
            return Reply(200, {"endpoints": [endpoint]})
        if path == "/ApplicationStatus":
            return Reply(200, {})
        return Reply(404, {"message": f"unexpected {path}"})


def test_cloud(app: Path, cloud_key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    cloud = Cloud()
    with scripted(cloud) as server:
        cloud.url = server.url
        deployed = deploy(
            app, "cloud", tenant="acme", application="shop", key=cloud_key, api=server.url,
            on_progress=lines.append,
        )  # fmt: skip
    assert (deployed.target, deployed.url) == ("cloud", server.url)
    assert "--cert" in deployed.message and "data-plane-public-cert.pem" in deployed.message
    assert any("quota is low" in line for line in deployed.warnings)
    assert "Deployment started in run 7" in lines
    assert capsys.readouterr().out == ""
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("POST", DEPLOY)
    assert sent.headers["x-key-id"] == "acme:shop:default"
    assert sent.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(sent.body)) as archive:
        names = set(archive.namelist())
        pem = archive.read("security/clients.pem")
    assert pem.startswith(b"-----BEGIN CERTIFICATE-----")
    assert names - {"security/clients.pem"} == {
        path.relative_to(app).as_posix() for path in app.rglob("*") if path.is_file()
    }
    assert_signed(sent, cloud_key, server.url)


def assert_signed(request: Request, key: Path, url: str) -> None:
    """Vespa Cloud checks the signature with the public key of the tenant."""
    from base64 import b64decode, b64encode

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    digest = b64encode(hashlib.sha256(request.body).digest()).decode()
    assert request.headers["x-content-hash"] == digest
    message = f"POST\n{url}{DEPLOY}\n{request.headers['x-timestamp']}\n{digest}".encode()
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signature = b64decode(request.headers["x-authorization"])
    private.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))


def test_cloud_refuses(app: Path, cloud_key: Path) -> None:
    with scripted(Cloud(status="deploymentFailed")) as server:
        with pytest.raises(EndpointError, match="Vespa Cloud: Deployment failed; see log"):
            deploy(app, "cloud", tenant="acme", application="shop", key=cloud_key, api=server.url)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tenant": "Not A Tenant"}, "cannot use Vespa Cloud: .*tenant"),
        ({"key": Path("none.pem")}, "expected the tenant's API key as a PEM file: no file none.p"),
    ],
)
def test_cloud_misuse(app: Path, cloud_key: Path, options: dict[str, Any], message: str) -> None:
    given = {"tenant": "acme", "application": "shop", "key": cloud_key, **options}
    with pytest.raises(UsageError, match=message) as caught:
        deploy(app, "cloud", **given)
    assert "\n" not in str(caught.value)


def test_cloud_without_a_certificate(
    app: Path, cloud_key: Path, empty_cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_cwd / ".vespa" / "data-plane-public-cert.pem").unlink()
    with pytest.raises(UsageError, match="Certificate and key not found"):
        deploy(app, "cloud", tenant="acme", application="shop", key=cloud_key)


# The embedded engine


def test_embedded(app: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    port = free_port()
    deployed = deploy(app, "embedded", data=tmp_path / "data", port=port, on_progress=lines.append)
    try:
        assert deployed.url == f"http://127.0.0.1:{port}"
        assert deployed.log == tmp_path / "data.log"
        assert f"kill {deployed.pid}" in deployed.message
        assert f"process {deployed.pid}" in lines[0]
        known = App.open(app)
        report = feed([Document("a", "red fox", "runs")], known, deployed.url)
        report.require_complete()
        with Client(deployed.url, known) as client:
            assert [hit.doc_id for hit in client.search("red", profile="cross").hits] == ["a"]
        with pytest.raises(EndpointError, match=f"cannot listen at 127.0.0.1:{port} .*in use"):
            deploy(app, "embedded", data=tmp_path / "other", port=port)
    finally:
        stop(deployed)


def test_embedded_with_folders_that_look_like_options(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(app, "-app")
    there, data = Path("./-app"), Path("./-data")
    deployed = deploy(there, "embedded", data=data, port=free_port())
    stop(deployed)
    assert (tmp_path / "-data" / "lock").is_file() and str(there) == "-app"


def stop(deployed: Deployment) -> None:
    assert deployed.pid is not None and deployed.process is not None
    os.kill(deployed.pid, signal.SIGTERM)
    assert deployed.process.wait(20) == 0


def test_an_engine_that_exits_during_startup(app: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("not a folder")
    with pytest.raises(EndpointError, match="the embedded engine exited during startup") as caught:
        deploy(app, "embedded", data=data, port=free_port())
    assert "(status " in str(caught.value) and "data.log" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_starts_without_a_package(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="manifest.json is missing"):
        deploy(tmp_path, "embedded", data=tmp_path / "data", port=free_port())
    assert os.listdir(tmp_path) == []
