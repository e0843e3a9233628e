"""Deployment to the dev zone of Vespa Cloud, through pyvespa."""

import contextlib
import io
from pathlib import Path
from typing import Any

from ranker.client.endpoint import Endpoint, Http
from ranker.deploy.deployment import Deployment, Say, silent
from ranker.deploy.server import wait_for_container
from ranker.errors import EndpointError, UsageError, require
from ranker.package.application import Package
from ranker.package.archive import write_archive

__all__ = ["deploy_cloud"]

CERTIFICATES = "security/clients.pem"
"""Vespa Cloud admits clients with a certificate that is in this file of the package."""


def deploy_cloud(
    app: Path,
    *,
    tenant: str,
    application: str,
    key: Path | None = None,
    instance: str = "default",
    region: str | None = None,
    api: str | None = None,
    wait_s: float = 300.0,
    on_progress: Say | None = None,
) -> Deployment:
    """Deploy to the dev zone of Vespa Cloud.

    The certificate for documents and queries is the one that pyvespa finds: in `.vespa` of the
    working folder or in `~/.vespa/TENANT.APPLICATION.INSTANCE`.  `vespa auth cert` makes it.

    Args:
        app: the package folder.
        tenant: name of the tenant.
        application: name of the application there.
        key: PEM file with the tenant's API key; without it, pyvespa logs in with a browser.
        instance: instance of the application.
        region: a dev region; by default that of pyvespa.
        api: address of another control plane than that of Vespa Cloud.
        wait_s: longest wait for the container after the deployment.
        on_progress: called with each line that Vespa Cloud logs.

    Raises:
        ArtifactError: `app` is not an application package, or was changed.
        MissingExtra: pyvespa is not installed.
        UsageError: a name, the key or the certificate cannot be used.
        EndpointError: Vespa Cloud does not answer, or refuses; the message quotes it.
    """
    app = Package.every(app)[0].path
    lines = _Lines(on_progress or silent)
    cloud = _logged_in(app, key, lines, tenant=tenant, application=application, instance=instance)
    cloud.base_url = api or cloud.base_url
    try:
        with contextlib.redirect_stdout(lines):
            url = str(cloud.deploy_from_disk(instance, app, region=region)).rstrip("/")
    except Exception as error:  # pyvespa raises RuntimeError, HTTPError, TimeoutError, …
        raise EndpointError(f"Vespa Cloud: {_line(error)}") from error
    identity = {"cert": Path(cloud.data_cert_path), "key": Path(cloud.data_key_path)}
    with Http(Endpoint.of(url, **identity)) as container:
        wait_for_container(container, wait_s=wait_s, say=on_progress or silent)
    return Deployment(
        target="cloud",
        url=url,
        message=f"deployed to {tenant}.{application}.{instance}; feed and query with "
        f"--cert {cloud.data_cert_path} --key {cloud.data_key_path}",
        warnings=tuple(line for line in lines.written if line.startswith("WARNING")),
    )


def _logged_in(app: Path, key: Path | None, lines: "_Lines", **names: str) -> Any:
    """Return pyvespa's client; what it prints goes to `lines`, as a library must not print.

    Raises:
        UsageError: a name, the key or the certificate cannot be used.
    """
    if key is not None and not key.is_file():
        raise UsageError(f"expected the tenant's API key as a PEM file: no file {key}")
    cloud_class, location = _cloud_class(), None if key is None else str(key)
    try:
        with contextlib.redirect_stdout(lines):
            return cloud_class(
                key_location=location, application_root=str(app), output_file=lines, **names
            )
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"cannot use Vespa Cloud: {_line(error)}") from error


def _cloud_class() -> Any:
    """Return pyvespa's class with our archive, which is complete and leaves no file behind."""
    deployment = require("vespa.deployment", extra="vespa")

    class Cloud(deployment.VespaCloud):  # type: ignore[misc, name-defined]
        def read_app_package_from_disk(self, application_root: Path) -> bytes:
            from cryptography.hazmat.primitives.serialization import Encoding

            certificate = self.data_certificate.public_bytes(Encoding.PEM)
            archive = io.BytesIO()  # its hash is sent before the first byte
            write_archive(Path(application_root), archive, extra={CERTIFICATES: certificate})
            return archive.getvalue()

        def get_application(self, *, instance: str, region: str, **_: object) -> Any:
            # Only the address: the original prints to the stdout of the time of its import.
            return self.get_mtls_endpoint(instance=instance, region=region)

    return Cloud


class _Lines(io.TextIOBase):
    """A text file that reports whole lines."""

    def __init__(self, say: Say) -> None:
        self.written: list[str] = []
        self._say, self._part = say, ""

    def write(self, text: str) -> int:
        *whole, self._part = (self._part + text).split("\n")
        for line in filter(None, map(str.strip, whole)):
            self.written.append(line)
            self._say(line)
        return len(text)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
