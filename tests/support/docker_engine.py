"""Docker's API, as far as the Docker library asks for it."""

from typing import Any

from scripted_server import Reply, Request


class DockerEngine:
    """The requests of the Docker library for one container, whose ports lead to a config server."""

    def __init__(self, port: int, *, there: bool = False, running: bool = True) -> None:
        self.port, self.there, self.running = port, there, running
        self.created: dict[str, Any] = {}

    def __call__(self, request: Request) -> Reply:
        path = request.path.split("?")[0].split("/", 2)[-1] if "/v1." in request.path else (
            request.path.lstrip("/"))  # fmt: skip
        if path == "version":
            return Reply(200, {"ApiVersion": "1.44", "Version": "25"})
        if path == "containers/create":
            self.created = request.json()
            self.there, self.running = True, False
            return Reply(201, {"Id": "c1", "Warnings": []})
        if path == "containers/c1/start":
            self.running = True
            return Reply(204, b"")
        if path in ("containers/ranker/json", "containers/c1/json") and self.there:
            published = [{"HostIp": "127.0.0.1", "HostPort": str(self.port)}]
            ports = {"8080/tcp": published, "19071/tcp": published}
            return Reply(
                200,
                {
                    "Id": "c1",
                    "Name": "/ranker",
                    "State": {"Status": "running" if self.running else "exited"},
                    "NetworkSettings": {"Ports": ports if self.running else {}},
                },
            )
        return Reply(404, {"message": f"No such container: {path}"})
