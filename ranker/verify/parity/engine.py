"""The embedded engine as a backend: fed and queried over HTTP, in a process of its own."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ranker.artifacts.profile import Profile
from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App, query_body
from ranker.contract.document_id import DocumentId
from ranker.errors import EndpointError, MissingExtra, UsageError, VerifyError
from ranker.feed import feed
from ranker.records import Document
from ranker.verify.parity.scored_pairs import (
    EncodedPairs,
    ScoredPairs,
    model_profiles,
)
from ranker.verify.vespa.process import free_port

__all__ = ["EngineBackend", "running_engine"]

START_S = 120.0
STOP_S = 30.0
POLL_S = 0.02
ANSWER_S = 60.0
PAGE = 100
"""Documents in one request."""

TRACE_INPUTS = 6
"""Trace level from which the engine reports the model's inputs (`ranker.engine.rank.search`)."""


class EngineBackend:
    """A running engine; its documents have the numbers of their pairs.

    Args:
        app: the application that the engine serves.
        url: its address.
    """

    def __init__(self, app: App, url: str) -> None:
        self._app = app
        self._url = url
        self._http = Http(Endpoint.of(url))

    def score(self, batch: EncodedPairs) -> Iterator[ScoredPairs]:
        """Feed the documents, then query for every pair with every profile.

        A query without a word is rejected by the client, so its pairs are left out.

        Raises:
            VerifyError: the engine rejects a document or a request, or gives no score for a pair.
        """
        documents = [
            Document(str(batch.first + row), pair.document.title, pair.document.text)
            for row, pair in enumerate(batch.pairs)
        ]
        for failure in feed(documents, self._app, self._url).failed:
            raise VerifyError(f"the embedded engine rejects a document: {failure}")
        rows_of: dict[str, list[int]] = {}
        for row, pair in enumerate(batch.pairs):
            rows_of.setdefault(pair.query, []).append(row)
        pages = [
            (text, rows[at : at + PAGE])
            for text, rows in rows_of.items()
            for at in range(0, len(rows), PAGE)
        ]
        for profile in model_profiles(self._app.manifest):
            yield from self._score_profile(batch, profile, pages)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _score_profile(
        self, batch: EncodedPairs, profile: Profile, pages: Sequence[tuple[str, list[int]]]
    ) -> Iterator[ScoredPairs]:
        """Yield ids and scores of one profile, and the scores by its summary feature `logit`."""
        manifest, size = self._app.manifest, len(batch)
        shape = (size, manifest.spec.length)
        inputs = {name: np.zeros(shape, np.int64) for name in manifest.spec.model_inputs}
        scores, by_logit = np.zeros(size), np.zeros(size)
        scored, with_logit = np.zeros(size, bool), np.zeros(size, bool)
        for text, rows in pages:
            for row, hit, received in self._hits(text, profile, batch, rows):
                for name, array in inputs.items():
                    array[row] = received[name]
                # The engine's bm25 of this query is replaced by the synthetic one.
                features = hit["fields"]["matchfeatures"]
                own = sum(float(features[f"bm25({field})"]) for field in manifest.match_fields)
                bm25 = float(batch.bm25[row])
                scores[row] = hit["relevance"] + profile.score(bm25, 0.0) - profile.score(own, 0.0)
                scored[row] = True
                logit = hit["fields"].get("summaryfeatures", {}).get("logit")
                with_logit[row] = logit is not None
                by_logit[row] = profile.score(bm25, logit or 0.0)
        name = f"engine ({profile.name})"
        yield ScoredPairs(name=name, scores={profile.name: scores}, inputs=inputs, rows=scored)
        if with_logit.any():
            name = f"engine's summary feature ({profile.name})"
            yield ScoredPairs(name=name, scores={profile.name: by_logit}, rows=with_logit)

    def _hits(
        self, text: str, profile: Profile, batch: EncodedPairs, rows: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
        """Query for some pairs: yield the row of each, its hit, and the inputs of the model.

        The request is the client's, but finds these documents only, regardless of their words.
        """
        size = len(rows)
        try:
            body = query_body(text, self._app, profile=profile.name, hits=size, rerank_count=size)
        except UsageError:
            return
        numbers = {row: str(batch.first + row) for row in rows}
        ids = ", ".join(f'"{number}"' for number in numbers.values())
        start, where, condition = body["yql"].partition(" where ")
        # `rank` matches its first operand only, and computes bm25 of the words in the second.
        body["yql"] = f"{start}{where}rank({self._app.manifest.id_field} in ({ids}), {condition})"
        body["timeout"] = f"{ANSWER_S:g}s"
        body["trace.level"] = TRACE_INPUTS
        result = self._http.post_json("/search/", body, timeout_s=ANSWER_S).json()
        for error in result["root"].get("errors", ()):
            raise VerifyError(
                f"the embedded engine answers with code {error['code']}: {error['message']} "
                f"(profile {profile.name}, query {text[:60]!a})"
            )
        hits = {
            DocumentId.parse(hit["id"]).doc_id: hit for hit in result["root"].get("children", ())
        }
        traced = (child["message"] for child in result["trace"]["children"])
        received = {
            DocumentId.parse(message["document"]).doc_id: message
            for message in traced
            if isinstance(message, dict)
        }
        for row, number in numbers.items():
            if number not in hits or number not in received:
                raise VerifyError(f"the embedded engine gives no score for pair {number}")
            yield row, hits[number], received[number]


@contextlib.contextmanager
def running_engine(app: Path) -> Iterator[str]:
    """Start an engine on the package and give its URL; it ends with the block or this process.

    Raises:
        MissingExtra: a library of the engine is not installed.
        VerifyError: the engine does not serve the package.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ranker.verify.parity.child", str(app.resolve()), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is not meant for it: it ends with its input
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            _wait(process, url, log)
            yield url
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: IO[bytes]) -> None:
    """Wait until the engine answers.

    Raises:
        MissingExtra: the engine lacks a library.
        VerifyError: it exited, or does not answer in time.
    """
    end = time.monotonic() + START_S
    with Http(Endpoint.of(url)) as http:
        while process.poll() is None:
            with contextlib.suppress(EndpointError):
                if http.get("/state/v1/health").status == 200:
                    return
            if time.monotonic() > end:
                raise VerifyError(f"the embedded engine did not answer at {url}")
            time.sleep(POLL_S)
    assert process.stdout is not None
    if said := process.stdout.read():
        reason = json.loads(said)
        kind = MissingExtra if reason["kind"] == MissingExtra.__name__ else VerifyError
        raise kind(f"the embedded engine does not serve the package: {reason['error']}")
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    raise VerifyError(f"the embedded engine exited during startup: {' | '.join(lines[-3:])}")
