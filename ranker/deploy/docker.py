"""Deployment to Vespa in a Docker container on this machine.

pyvespa's VespaDocker does the same, but writes the archive into the working folder, reads all of
it into memory and gives the config server 120 s.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ranker.deploy.deployment import Deployment, Say, silent
from ranker.deploy.server import deploy_server, wait_for_config_server
from ranker.errors import EndpointError, require
from ranker.package.application import Package

__all__ = ["deploy_docker"]

IMAGE = "vespaengine/vespa:8"
HOST = "127.0.0.1"
"""Vespa does not ask for a password, so its ports are open to this machine only."""

QUERY_PORT, CONFIG_PORT = "8080/tcp", "19071/tcp"


def deploy_docker(
    app: Path,
    *,
    name: str | None = None,
    image: str = IMAGE,
    port: int = 8080,
    config_port: int = 19071,
    wait_s: float = 300.0,
    on_progress: Say | None = None,
) -> Deployment:
    """Start Vespa in Docker, or use an existing container, and deploy to it.

    Args:
        app: the package folder.
        name: name of the container; by default that of the application.
        image: Docker image of Vespa.
        port: port on this machine for documents and queries.
        config_port: port on this machine for the config server.
        wait_s: longest wait for the config server, and then for the services.
        on_progress: called with each step.

    Raises:
        ArtifactError: `app` is not an application package, or was changed.
        MissingExtra: pyvespa, which brings the Docker library, is not installed.
        EndpointError: Docker does not answer, or Vespa does not start.
        ResponseError: Vespa refused the package.
    """
    say = on_progress or silent
    package = Package.every(app)[0]
    docker = require("docker", extra="vespa")
    try:
        engine = docker.from_env()
        try:
            name = name or package.manifest.name
            container = _container(docker, engine, name, image, port, config_port, say)
            ports = {inside: _port(container, inside) for inside in (QUERY_PORT, CONFIG_PORT)}
        finally:
            engine.close()
    except docker.errors.DockerException as error:
        raise EndpointError(_explain(error)) from error
    config_url = f"http://{HOST}:{ports[CONFIG_PORT]}"
    say(f"waiting for the config server at {config_url}")
    wait_for_config_server(config_url, wait_s=wait_s)
    url = f"http://{HOST}:{ports[QUERY_PORT]}"
    deployed = deploy_server(app, config_url=config_url, url=url, wait_s=wait_s, on_progress=say)
    message = (
        f"{deployed.message} It runs in the container {name}; stop it with: docker stop {name}"
    )
    return replace(deployed, target="docker", message=message)


# The Docker library has no types, so its modules, clients and containers are `Any`.
def _container(
    docker: Any, engine: Any, name: str, image: str, port: int, config_port: int, say: Say
) -> Any:
    """Return the running container of that name; create or start it if necessary."""
    try:
        container = engine.containers.get(name)
        if container.status != "running":
            say(f"starting the container {name}")
            container.start()
    except docker.errors.NotFound:
        say(f"starting {image} as the container {name} (the first time Docker fetches the image)")
        container = engine.containers.run(
            image,
            detach=True,
            name=name,
            hostname=name,
            ports={QUERY_PORT: (HOST, port), CONFIG_PORT: (HOST, config_port)},
        )
    container.reload()
    return container


def _port(container: Any, inside: str) -> int:
    published = container.ports.get(inside)
    if not published:
        raise EndpointError(
            f"the container {container.name} does not publish its port {inside}; remove it with: "
            f"docker rm -f {container.name}"
        )
    return int(published[0]["HostPort"])


def _explain(error: Exception) -> str:
    reason = " ".join(str(getattr(error, "explanation", None) or error).split())
    if getattr(error, "status_code", None) is None:
        return (
            f"Docker does not answer ({reason[:200]}); start it, or use the target embedded, "
            "or server for a running Vespa"
        )
    return f"Docker refused: {reason[:500]}"
