"""Deployment of an application package: where to serve it is a choice of endpoint, not of code.

Targets: `embedded` (the engine of this project, in a process of its own), `docker` (Vespa in a
container on this machine), `server` (a running Vespa), `cloud` (the dev zone of Vespa Cloud).
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranker.deploy.cloud import deploy_cloud
from ranker.deploy.deployment import Deployment, Say
from ranker.deploy.docker import deploy_docker
from ranker.deploy.embedded import deploy_embedded
from ranker.deploy.server import deploy_server
from ranker.errors import UsageError
from ranker.package.archive import unpack_archive, write_archive

__all__ = [
    "TARGETS",
    "Deployment",
    "Say",
    "deploy",
    "deploy_cloud",
    "deploy_docker",
    "deploy_embedded",
    "deploy_server",
    "unpack_archive",
    "write_archive",
]

TARGETS: dict[str, Callable[..., Deployment]] = {
    "embedded": deploy_embedded,
    "docker": deploy_docker,
    "server": deploy_server,
    "cloud": deploy_cloud,
}


def deploy(app: Path, target: str, **options: Any) -> Deployment:
    """Deploy an application package to a target by name.

    Args:
        app: the package folder.
        target: one of `TARGETS`.
        options: keyword arguments of that target's function.

    Raises:
        UsageError: the target does not exist, or an option is unknown to it or missing.
        ArtifactError: `app` is not an application package, or was changed.
        EndpointError: the target does not answer, or refuses.
    """
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}; expected one of: {', '.join(TARGETS)}")
    parameters = inspect.signature(TARGETS[target]).parameters
    known = [name for name in parameters if name != "app"]
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(
            f"the target {target} has no option {', '.join(unknown)}; it has: {', '.join(known)}"
        )
    needed = [name for name in known if parameters[name].default is inspect.Parameter.empty]
    if missing := [name for name in needed if options.get(name) is None]:
        raise UsageError(f"the target {target} needs {' and '.join(missing)}")
    return TARGETS[target](app, **options)
