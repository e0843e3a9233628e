"""Fixtures that more than one module needs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ranker.artifacts.bundle import Bundle
    from ranker.contract.encode import Encoder
    from ranker.verify import VespaProcess

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# A shell that starts the tests in the background would have them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT with random weights and a vocabulary of its own."""
    from families import make_family

    return make_family("bert", tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def minilm() -> Iterator[Path]:
    """The real MiniLM that the project's default base is."""
    from ranker.model.base import open_base

    yield Path(open_base("all-MiniLM-L6-v2").source)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An application package with the tiny model."""
    from engine_support import make_app

    return make_app(tmp_path_factory.mktemp("package") / "app")


@pytest.fixture(scope="module")
def encoder(package: Path) -> "Encoder":
    """The encoder of `package`."""
    from engine_support import encoder_of

    return encoder_of(package)


@pytest.fixture(scope="module")
def url(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running engine with `package`."""
    from engine_support import running_engine

    with running_engine(package, tmp_path_factory.mktemp("engine") / "data") as url:
        yield url


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> "Bundle":
    """The tiny model."""
    from engine_support import make_bundle

    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> "Bundle":
    """The tiny model under another token contract, with fewer slots."""
    from engine_support import make_bundle

    folder = tmp_path_factory.mktemp("short") / "bundle"
    return make_bundle(folder, query_slots=20, document_slots=50)


@pytest.fixture(scope="session")
def vespa_process() -> Iterator["VespaProcess"]:
    """Vespa's own Java code; one process for all tests."""
    from ranker.errors import MissingTool
    from ranker.verify import VespaProcess

    try:
        vespa_process = VespaProcess()
    except MissingTool as error:
        pytest.skip(str(error))
    with vespa_process:
        yield vespa_process


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests run in several processes, hand the figures of this one to the first."""
    from figures import FIGURES

    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = FIGURES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the figures of a process that has ended."""
    from figures import FIGURES

    FIGURES.extend(getattr(node, "workeroutput", {}).get("figures", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests recorded."""
    from figures import FIGURES

    if FIGURES:
        terminalreporter.section("figures")
    for name, text in FIGURES:
        terminalreporter.write_line(f"{name}: {text}")
