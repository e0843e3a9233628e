"""The embedded engine as a way to score: fed and asked over HTTP, in a process of its own."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile
from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App, query_body
from ranker.contract.encode import ModelInputs
from ranker.errors import EndpointError, MissingExtra, UsageError, VerifyError
from ranker.feed import feed
from ranker.records import Document
from ranker.verify.parity.backends import model_profiles
from ranker.verify.parity.scored_pairs import Part, ScoredPairs, input_names
from ranker.verify.vespa.process import free_port

__all__ = ["EngineWay", "running_engine"]

START_S = 120.0
STOP_S = 30.0
POLL_S = 0.02
ANSWER_S = 60.0
PAGE = 100
"""Documents in one request."""

TRACE_INPUTS = 6
"""Trace level at which the engine tells what the model got (`ranker.engine.rank.search`)."""


class EngineWay:
    """A running engine; its documents are numbered as their pairs are.

    Args:
        app: the application that it serves.
        url: where.
    """

    def __init__(self, app: App, url: str) -> None:
        self._app = app
        self._url = url
        self._http = Http(Endpoint.of(url))

    def look(self, part: Part) -> Iterator[ScoredPairs]:
        """Feed the documents, then ask for every pair with every profile.

        A question without a word is refused by the client, so its pairs are left out.

        Raises:
            VerifyError: the engine refuses a document or a request, or does not answer for a pair.
        """
        self._feed(part)
        groups: dict[str, list[int]] = {}
        for row, pair in enumerate(part.pairs):
            groups.setdefault(pair.query, []).append(row)
        for profile in model_profiles(self._app.manifest):
            yield from self._profile(part, profile, groups)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _feed(self, part: Part) -> None:
        documents = [
            Document(str(part.first + row), pair.document.title, pair.document.text)
            for row, pair in enumerate(part.pairs)
        ]
        report = feed(documents, self._app, self._url)
        for failure in report.failed:
            raise VerifyError(f"the embedded engine refuses a document: {failure}")

    def _profile(
        self, part: Part, profile: Profile, groups: dict[str, list[int]]
    ) -> Iterator[ScoredPairs]:
        """Ids and scores of one profile; its summary feature `logit` beside the relevance."""
        spec = self._app.manifest.spec
        scores, logits = np.zeros(len(part)), np.zeros(len(part))
        asked, with_logit = np.zeros(len(part), bool), np.zeros(len(part), bool)
        inputs = {name: np.zeros((len(part), spec.length), np.int64) for name in input_names(spec)}
        for text, rows in groups.items():
            for at in range(0, len(rows), PAGE):
                page = rows[at : at + PAGE]
                answer = self._ask(text, profile, part, page)
                for row, hit in _hits(answer, part, page, inputs):
                    # The engine's bm25 of this query is taken out, the made-up one put in.
                    bm25, own = float(part.bm25[row]), _bm25(hit, self._app.manifest)
                    shift = profile.score(bm25, 0.0) - profile.score(own, 0.0)
                    scores[row] = hit["relevance"] + shift
                    asked[row] = True
                    logit = hit["fields"].get("summaryfeatures", {}).get("logit")
                    with_logit[row] = logit is not None
                    logits[row] = profile.score(bm25, logit or 0.0)
        name = f"engine ({profile.name})"
        yield ScoredPairs(name=name, scores={profile.name: scores}, inputs=inputs, rows=asked)
        if with_logit.any():
            name = f"engine's summary feature ({profile.name})"
            yield ScoredPairs(name=name, scores={profile.name: logits}, rows=with_logit)

    def _ask(self, text: str, profile: Profile, part: Part, rows: Sequence[int]) -> dict[str, Any]:
        """The client's request, but for these documents only, whatever words they have."""
        try:
            body = query_body(
                text, self._app, profile=profile.name, hits=len(rows), rerank_count=len(rows)
            )
        except UsageError:
            return {}
        ids = ", ".join(f'"{part.first + row}"' for row in rows)
        start, where, condition = body["yql"].partition(" where ")
        body["yql"] = f"{start}{where}rank({self._app.manifest.id_field} in ({ids}), {condition})"
        body["timeout"] = f"{ANSWER_S:g}s"
        body["trace.level"] = TRACE_INPUTS
        answer = self._http.post_json("/search/", body, timeout_s=ANSWER_S)
        found: dict[str, Any] = answer.json()
        for error in found["root"].get("errors", ()):
            raise VerifyError(
                f"the embedded engine answers with code {error['code']}: {error['message']} "
                f"(profile {profile.name}, question {text[:60]!a})"
            )
        return found


@contextlib.contextmanager
def running_engine(app: Path) -> Iterator[str]:
    """The URL of an engine on the package; it ends with the block, or with this process.

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
        try:
            _wait(process, url, log)
            yield url
        finally:
            _stop(process)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: IO[bytes]) -> None:
    """Wait until it serves.

    Raises:
        MissingExtra: it lacks a library.
        VerifyError: it ended.
    """
    assert process.stdout is not None
    watch = threading.Timer(START_S, process.kill)
    watch.daemon = True
    watch.start()
    said = process.stdout.readline()
    watch.cancel()
    if not said:
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
        raise VerifyError(f"the embedded engine ended at its start: {' | '.join(lines[-3:])}")
    answer = json.loads(said)
    if "error" in answer:
        kind = MissingExtra if answer["kind"] == MissingExtra.__name__ else VerifyError
        raise kind(f"the embedded engine does not serve the package: {answer['error']}")
    end = time.monotonic() + START_S
    with Http(Endpoint.of(url)) as http:
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(EndpointError):
                if http.get("/state/v1/health").status == 200:
                    return
            time.sleep(POLL_S)
    raise VerifyError(f"the embedded engine did not answer at {url}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _hits(
    answer: dict[str, Any], part: Part, rows: Sequence[int], inputs: ModelInputs
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each asked pair's hit; what the model got for it is written into `inputs`.

    Raises:
        VerifyError: a pair is missing from the answer or from its trace.
    """
    if not answer:
        return
    hits = {hit["id"].partition("::")[2]: hit for hit in answer["root"].get("children", ())}
    told = [child["message"] for child in answer["trace"]["children"]]
    got = {
        message["document"].partition("::")[2]: message
        for message in told
        if isinstance(message, dict)
    }
    for row in rows:
        number = str(part.first + row)
        if number not in hits or number not in got:
            raise VerifyError(f"the embedded engine gives no answer for pair {number}")
        for name, array in inputs.items():
            array[row] = got[number][name]
        yield row, hits[number]


def _bm25(hit: dict[str, Any], manifest: Manifest) -> float:
    features = hit["fields"]["matchfeatures"]
    return sum(float(features[f"bm25({field})"]) for field in manifest.match_fields)
