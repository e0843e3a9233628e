"""Vespa's own code in one Java process, which takes and answers JSON lines."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from ranker.errors import VerifyError
from ranker.verify.vespa.build import VESPA_VERSION, class_path, java

__all__ = [
    "OpenPackage",
    "ReadOperation",
    "Validation",
    "VespaProcess",
    "container",
    "free_port",
    "open_package",
    "working_copy",
]

Binding = Mapping[str, float | Sequence[int] | Sequence[float]]
"""Values of features by name, such as `query(x)`: a number, or all cells of a dense tensor."""

ANSWER_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 30.0
JAVA_OPTIONS = ("-Xmx2g", "-XX:+UseSerialGC", "-Djava.awt.headless=true")
"""One garbage collector thread, since a check shares the cores with other processes."""
QUICK_START = "-XX:TieredStopAtLevel=1"
"""The quick compiler only: the container then starts with 8 s of processor time, not 12."""


@dataclass(frozen=True)
class Validation:
    """The result of Vespa's validators: one chain of error messages, the outermost first."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ReadOperation:
    """A feed operation as Vespa's feed reader understood it.

    Attributes:
        error: why it was refused, or None.
        fields: names of the fields that were set.
        cells: for each tensor field, the values of all its cells.
    """

    error: str | None
    fields: tuple[str, ...]
    cells: dict[str, list[float]]


class VespaProcess:
    """Vespa's own code in a process that runs until `close`.

    An application folder must not change while the process uses it, and Vespa writes into it, so
    give it a `working_copy`.

    Args:
        version: the Vespa release.
        folder: working directory of the process.
        options: further options of the Java virtual machine.

    Raises:
        MissingTool: there is no JDK, or no Maven for the first build.
        VerifyError: the first build failed.
    """

    def __init__(
        self,
        *,
        version: str = VESPA_VERSION,
        folder: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        jars = class_path(version)
        self._home = tempfile.TemporaryDirectory(prefix="ranker-vespa-home-")
        self._log = tempfile.TemporaryFile()
        home = f"-Dvespa.home={self._home.name}"  # Vespa writes logs and locks there
        self._process = subprocess.Popen(
            [str(java()), *JAVA_OPTIONS, *options, home, "-cp", jars, "ranker.verify.Main"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._turn = threading.Lock()

    def validate(self, app: Path) -> Validation:
        """Run the config server's validators."""
        answer = self.ask("validate", app=str(app))
        return Validation(tuple(answer["errors"]), tuple(answer["warnings"]))

    def evaluate(
        self,
        app: Path,
        *,
        profile: str,
        functions: Sequence[str],
        bindings: Sequence[Binding],
        schema: str = "",
    ) -> list[list[npt.NDArray[np.float64]]]:
        """Compute functions of a rank profile, a row for each binding.

        Args:
            app: the application folder.
            profile: the rank profile.
            functions: names of functions without arguments, or `secondphase`, `globalphase`.
            bindings: features; those that a function does not take are ignored.
            schema: the schema with the rank profile; the first one by default.

        Returns:
            For each binding and function the cells of the result, one for a scalar.

        Raises:
            VerifyError: Vespa rejects the package, the profile, a function or a binding.
        """
        rows = self.ask(
            "evaluate",
            app=str(app),
            schema=schema,
            profile=profile,
            functions=list(functions),
            bindings=[dict(binding) for binding in bindings],
        )
        return [[np.array(value["values"], dtype=np.float64) for value in row] for row in rows]

    def feed(self, app: Path, operations: Sequence[Mapping[str, Any]]) -> list[ReadOperation]:
        """Read puts, `{"put": id, "fields": {...}}` each, with Vespa's feed reader."""
        return [
            ReadOperation(_chain(answer["error"]), (), {})
            if "error" in answer
            else ReadOperation(None, tuple(answer["fields"]), dict(answer["cells"]))
            for answer in self.ask("feed", app=str(app), operations=list(operations))
        ]

    def serve(self, app: Path) -> None:
        """Start Vespa's container on the port that services.xml names; see `container`."""
        self.ask("http", app=str(app))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        self._home.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, op: str, **request: object) -> Any:  # JSON, of a form that depends on `op`
        """Send a request, and return the answer to it.

        Raises:
            VerifyError: Vespa rejects the request, or the process exited.
        """
        line = self._exchange(json.dumps({"op": op, **request}).encode() + b"\n")
        if not line:
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            reason = " | ".join(lines[-3:]) or "it printed nothing"
            raise VerifyError(f"Vespa's process exited during {op}: {reason}")
        answer = json.loads(line)
        if "error" in answer:
            raise VerifyError(f"Vespa: {_chain(answer['error'])} ({answer['kind']})")
        return answer["ok"]

    def _exchange(self, line: bytes) -> bytes:
        """Write one line and read one; kill the process if the answer takes too long."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None or stdin.closed:
            raise VerifyError("Vespa's process was already closed")
        watch = threading.Timer(ANSWER_TIMEOUT_S, self._process.kill)
        watch.daemon = True
        with self._turn:  # answers have no ids, so requests must not overlap
            watch.start()
            try:
                stdin.write(line)
                stdin.flush()
                return stdout.readline()
            except BrokenPipeError:
                return b""
            finally:
                watch.cancel()


@contextlib.contextmanager
def working_copy(app: Path, *, port: int | None = None) -> Iterator[Path]:
    """Copy an application package into a folder that Vespa may write into; models are links.

    Args:
        app: the application folder.
        port: the container's HTTP port, written into the copy's services.xml.
    """
    with tempfile.TemporaryDirectory(prefix="ranker-verify-") as name:
        copy = Path(name) / "app"
        shutil.copytree(app, copy, copy_function=_link_models)
        if port is not None:
            _listen(copy / "services.xml", port)
        yield copy


@dataclass(frozen=True)
class OpenPackage:
    """A package in Vespa's own code: the process, and the copy that Vespa writes into."""

    process: VespaProcess
    copy: Path


@contextlib.contextmanager
def open_package(app: Path, *, version: str = VESPA_VERSION) -> Iterator[OpenPackage]:
    """Open a package in a process of its own.

    Raises:
        MissingTool: there is no JDK, or no Maven for the first build.
        VerifyError: the first build failed.
    """
    with VespaProcess(version=version) as process, working_copy(app) as copy:
        yield OpenPackage(process, copy)


@contextlib.contextmanager
def container(app: Path, *, version: str = VESPA_VERSION) -> Iterator[str]:
    """Run Vespa's real container on a copy of the package, without content nodes; give its URL.

    Raises:
        MissingTool: there is no JDK, or no Maven for the first build.
        VerifyError: the container does not start.
    """
    port = free_port()
    with working_copy(app, port=port) as copy:
        # The container looks for the ONNX file from its working directory.
        with VespaProcess(version=version, folder=copy, options=[QUICK_START]) as process:
            process.serve(copy)
            yield f"http://127.0.0.1:{port}"


def _link_models(source: str, target: str) -> str:
    # A model of 500 MB would be copied for every check; Vespa only reads it.
    if source.endswith(".onnx"):
        os.symlink(os.path.abspath(source), target)
        return target
    return shutil.copy2(source, target)


def _listen(services: Path, port: int) -> None:
    """Give the first container of services.xml one HTTP server, on this port."""
    tree = ElementTree.parse(services)
    cluster = tree.getroot().find("container")
    if cluster is None:
        raise VerifyError(f"{services} has no <container>, so there is nothing to query")
    # Its own servers may need ports or certificates that this machine does not have.
    for http in cluster.findall("http"):
        cluster.remove(http)
    http = ElementTree.SubElement(cluster, "http")
    ElementTree.SubElement(http, "server", {"id": "verify", "port": str(port)})
    tree.write(services, encoding="utf-8", xml_declaration=True)


def free_port() -> int:
    """Return a TCP port of this machine's own address that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _chain(messages: Sequence[str]) -> str:
    """Join the messages of an exception and its causes in one line."""
    return ": ".join(" ".join(message.split()) for message in messages)
