"""A tiny judged collection, and an endpoint in memory with a Client's methods."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import default_profiles
from ranker.dataset import Dataset
from ranker.evaluate import Evaluation
from ranker.evaluate.figures import counts
from ranker.lexical.bm25 import BM25Index
from ranker.package.application import DEFAULT_SPEC
from ranker.records import Document, Query

DOCUMENTS = {
    "d1": Document("d1", "Line reader", "Read a file line by line without loading it."),
    "d2": Document("d2", "File copy", "Copy a file to another place."),
    "d3": Document("d3", "Timer", "Run a function every few seconds."),
    "d4": Document("d4", "Line chart", "Draw a line through points."),
    "d5": Document("d5", "Scheduler", "Run a function at a given time."),
}
QUERIES = {
    "q1": Query("q1", "read a file line by line"),
    "q2": Query("q2", "run a function every n seconds"),
    "q3": Query("q3", "copy file"),
    "q4": Query("q4", "xylophone"),
}
QRELS = {
    "q1": {"d1": 3, "d2": 0, "d4": 0},
    "q2": {"d3": 2, "d5": 3},
    "q3": {"d2": 1},
    "q4": {"d5": 1},
}


def dataset(**changes: Any) -> Dataset:
    values: dict[str, Any] = {
        "name": "tiny",
        "documents": DOCUMENTS,
        "queries": QUERIES,
        "qrels": QRELS,
        "split": "test",
        **changes,
    }
    return Dataset(**values)


def manifest() -> Manifest:
    return Manifest(
        application="ranker",
        namespace="ranker",
        schema="doc",
        spec=DEFAULT_SPEC,
        profiles=default_profiles(2.0),
        recommended_profile="blend",
        timeout_s=10.0,
        model_sha256="f" * 64,
        ranker_version="0.1.0",
    )


@dataclass(frozen=True)
class Hit:
    doc_id: str
    relevance: float


@dataclass(frozen=True)
class Result:
    hits: tuple[Hit, ...]
    latency_s: float
    server_s: float | None


@dataclass(frozen=True)
class App:
    manifest: Manifest


Answering = Callable[[str, str], list[tuple[str, float]]]
"""From query text and profile to document ids and scores."""


@dataclass
class Endpoint:
    """A substitute for a Client; `answering` may raise what a Client raises."""

    answering: Answering
    url: str = "http://127.0.0.1:8080"
    app: App = field(default_factory=lambda: App(manifest()))
    server_s: float | None = 0.002
    calls: list[tuple[str, str, int, str | None]] = field(default_factory=list)
    timeouts: set[float | None] = field(default_factory=set)

    def search(
        self,
        text: str,
        *,
        profile: str,
        hits: int = 10,
        summary: str | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        self.timeouts.add(timeout_s)
        self.calls.append((text, profile, hits, summary))
        ranked = [Hit(doc_id, score) for doc_id, score in self.answering(text, profile)]
        return Result(tuple(ranked[:hits]), 0.001 * len(self.calls), self.server_s)


def bm25_answering(documents: dict[str, Document] = DOCUMENTS) -> Answering:
    """Rank by BM25 for every profile except `blend`, which adds 100 to the score of d5."""
    index = BM25Index(documents.values())

    def answer(text: str, profile: str) -> list[tuple[str, float]]:
        ranked = index.search(text, 1000)
        if profile == "blend":
            ranked = sorted(
                ((d, s + 100 * (d == "d5")) for d, s in ranked), key=lambda hit: -hit[1]
            )
        return ranked

    return answer


def evaluation(*comparisons, means=None, profiles=None, figures=None, **changes):
    """An evaluation with hand-made figures; a comparison is (profile, mean, low, high, p)."""
    names = profiles or ["bm25", *[row[0] for row in comparisons]]
    means = means or {"bm25": 0.4, **{row[0]: 0.4 + row[1] for row in comparisons}}
    empty = {"hits": 100, "queries_without_hits": [], "unknown_hits": 0}
    by_profile = {
        name: {
            "mean": {"nDCG@10": means[name], "Judged@10": 0.8},
            "per_query": {"nDCG@10": {"q1": means[name], "q2": means[name]}},
            **empty,
            **(figures or {}).get(name, {}),
        }
        for name in names
    }
    return Evaluation(
        path="unused",
        figures={
            "arguments": {"profiles": names, "measures": ["nDCG@10", "Judged@10"], "hits": 100},
            "dataset": {**counts(dataset()), "queries": 38},
            "baseline": names[0],
            "recommended_profile": "blend",
            "profiles": by_profile,
            "comparisons": [
                {
                    "baseline": "bm25", "profile": name, "measure": "nDCG@10", "queries": 38,
                    "mean_difference": mean, "interval": [low, high], "p": p, "p_holm": p,
                    "wins": 20 if mean else 0, "ties": 18, "losses": 0,
                }
                for name, mean, low, high, p in comparisons
            ],
            **changes,
        },
    )  # fmt: skip
