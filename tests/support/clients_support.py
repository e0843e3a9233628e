"""Vespa's own clients, unchanged, for tests: pyvespa and the `vespa` CLI, every call counted.

    ledger = Ledger("pyvespa")
    app = ledger.watched(Vespa(url, port))
    done = VespaCli(url, home, ledger)("status")

A call is one of a method of the client, or one run of the program.
"""

import contextlib
import functools
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import vespacli
from figures import record
from vespa.application import Vespa

from ranker.records import Document

__all__ = ["Ledger", "VespaCli", "counted", "documents", "ledger_of", "vespa_of"]

VOCABULARY = "red green blue fox dog cat tree river apple pear plum world".split()
"""Words that no stemmer changes or joins."""


class Ledger:
    """The number of calls of a client, and of those in tests that passed."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.made = 0
        self.passed = 0
        self._seen = 0

    def __str__(self) -> str:
        verdict = "all passed" if self.passed == self.made else f"{self.passed} passed"
        return f"{self.client} {self.made}, {verdict}"

    def watched(self, target: Any) -> Any:
        """Return the client with its calls counted."""
        return _Watched(target, self)

    @contextlib.contextmanager
    def counting(self, session: pytest.Session) -> Iterator[None]:
        """Count the calls of one test, including those of the fixtures before it.

        The report of a test is known before its fixtures end.
        """
        failed = session.testsfailed
        yield
        if session.testsfailed == failed:
            self.passed += self.made - self._seen
        self._seen = self.made


def ledger_of(client: str) -> tuple[Any, Any]:
    """Return the fixtures `ledger` and `count` of a module, which count and record its calls."""

    @pytest.fixture(scope="module", name="ledger")
    def ledger() -> Iterator[Ledger]:
        kept = Ledger(client)
        yield kept
        record("clients' calls", str(kept))

    @pytest.fixture(autouse=True, name="count")
    def count(ledger: Ledger, request: pytest.FixtureRequest) -> Iterator[None]:
        with ledger.counting(request.session):
            yield

    return ledger, count


class _Watched:
    def __init__(self, target: Any, ledger: Ledger) -> None:
        self._target = target
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return counted(self._ledger, found) if callable(found) else found


def counted(ledger: Ledger, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its calls counted."""

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        ledger.made += 1
        return function(*arguments, **keywords)

    return call


def vespa_of(url: str) -> Vespa:
    """Return pyvespa's client of an endpoint."""
    host, _, port = url.rpartition(":")
    return Vespa(url=host, port=int(port))


class VespaCli:
    """The `vespa` program itself: its wrapper from PyPI always exits 0.

    Args:
        url: the endpoint that it talks to.
        home: folder for its own files.
        ledger: where calls are counted.
    """

    def __init__(self, url: str, home: Path, ledger: Ledger) -> None:
        self._url = url
        self._ledger = ledger
        self._env = {**os.environ, "VESPA_CLI_HOME": str(home), "NO_COLOR": "1"}

    def __call__(
        self, *arguments: str, stdin: str | None = None, timeout_s: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Run it, regardless of the exit status."""
        self._ledger.made += 1
        command = [vespacli.get_binary_path(), *arguments, "--target", self._url]
        return subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=self._env,
        )

    def json(self, *arguments: str, **keywords: Any) -> Any:
        """Return the JSON that it prints; it must succeed."""
        done = self(*arguments, **keywords)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def lines(self, *arguments: str, **keywords: Any) -> list[Any]:
        """Return the JSON lines that it prints; it must succeed."""
        done = self(*arguments, **keywords)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def documents(count: int, *, seed: int, prefix: str = "d") -> list[Document]:
    """Make documents of few words, so that most queries match some; a few have no title."""
    pick = random.Random(seed)

    def words(least: int, most: int) -> str:
        return " ".join(pick.choices(VOCABULARY, k=pick.randint(least, most)))

    return [Document(f"{prefix}{n}", words(0, 4), words(1, 12)) for n in range(count)]
