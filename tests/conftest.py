"""Fixtures that more than one module needs."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ranker.verify import Judge

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT with random weights and a vocabulary of its own."""
    from families import make_family

    return make_family("bert", tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def minilm() -> Iterator[Path]:
    """The real MiniLM that the project's default base is."""
    from ranker.model import open_base

    yield Path(open_base("all-MiniLM-L6-v2").source)


@pytest.fixture(scope="session")
def judge() -> Iterator["Judge"]:
    """Vespa's own Java code; one process for all tests."""
    from ranker.errors import MissingTool
    from ranker.verify import Judge

    try:
        judge = Judge()
    except MissingTool as error:
        pytest.skip(str(error))
    with judge:
        yield judge


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests recorded."""
    from figures import FIGURES

    if FIGURES:
        terminalreporter.section("figures")
    for name, text in FIGURES:
        terminalreporter.write_line(f"{name}: {text}")
