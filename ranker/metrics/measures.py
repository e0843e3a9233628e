"""Relevance measures, as `ir_measures` computes them (nDCG as trec_eval defines it).

Documents with equal scores are ordered by a hash of query and document.  trec_eval orders them by
document id, and ids often reveal the grade: in a collection that lists the answers of a query
first, every tie would count against BM25, and any noise added to its scores would look like a gain.
"""

import hashlib
import math
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ranker.errors import DataError, first_line, require

if TYPE_CHECKING:
    from ir_measures.measures import Measure

__all__ = [
    "DEFAULT",
    "Qrels",
    "Run",
    "aggregate",
    "ndcg_at_10",
    "ordered",
    "per_query",
    "ranked",
    "trec_run",
]

Qrels = Mapping[str, Mapping[str, int]]
"""query id -> document id -> relevance."""
Run = Mapping[str, Mapping[str, float]]
"""query id -> document id -> score."""

DEFAULT = ("nDCG@10", "AP", "RR", "P@10", "R@100", "Judged@10")


def per_query(qrels: Qrels, run: Run, measures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compute values by measure and query id for every judged query; one without hits counts 0.

    Raises:
        DataError: a measure's name is unknown, two names mean the same measure, nothing is judged,
            or a measure cannot be computed from these grades and rankings.
    """
    if not qrels:
        raise DataError("no judged queries to measure")
    library = require("ir_measures", extra="evaluate")
    parsed: dict[Measure, str] = {}
    for name in measures:
        if (first := parsed.setdefault(_parse(name), name)) != name:
            raise DataError(f"{first!r} and {name!r} are the same measure; name it once")
    values: dict[str, dict[str, float]] = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    ids = list(qrels)
    numbers = {query_id: str(at) for at, query_id in enumerate(ids)}  # gdeval accepts no others
    # ir_measures divides by the number of hits, so a query without any is left out.
    # Ranks instead of scores, so that the library breaks no ties.
    rankings = {
        numbers[id_]: {doc: -float(at) for at, (doc, _) in enumerate(ordered(id_, run[id_]))}
        for id_ in qrels
        if run.get(id_)
    }
    judged = {numbers[id_]: dict(row) for id_, row in qrels.items()}
    try:
        for metric in library.iter_calc(list(parsed), judged, rankings):
            values[parsed[metric.measure]][ids[int(metric.query_id)]] = float(metric.value)
    except (subprocess.CalledProcessError, ZeroDivisionError, OSError) as error:
        raise DataError(
            f"one of the measures {', '.join(measures)} cannot be computed here: "
            f"{first_line(error)}"
        ) from error
    return values


def aggregate(qrels: Qrels, run: Run, measures: Sequence[str]) -> dict[str, float]:
    """Return the mean of each measure over all judged queries."""
    values = per_query(qrels, run, measures)
    return {name: sum(by_query.values()) / len(by_query) for name, by_query in values.items()}


def ndcg_at_10(qrels: Qrels, run: Run) -> float:
    """Return the mean nDCG@10 over all judged queries."""
    return aggregate(qrels, run, ["nDCG@10"])["nDCG@10"]


def ordered(query_id: str, scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Order the documents of a query, with their scores, best first.

    Scores are compared as float32, as in trec_eval; equal ones are ordered by the hash.
    """
    documents = list(scores.items())
    values = np.fromiter(scores.values(), np.float32, len(scores))
    if len(np.unique(values)) == len(values):
        return [documents[at] for at in np.argsort(-values)]

    def key(at: int) -> tuple[np.float32, bytes]:
        named = f"{query_id}\0{documents[at][0]}".encode(errors="surrogatepass")
        return -values[at], hashlib.blake2b(named, digest_size=8).digest()

    return [documents[at] for at in sorted(range(len(documents)), key=key)]


def ranked(run: Run) -> Iterable[tuple[str, list[tuple[str, float]]]]:
    """Yield every query with its documents, best first."""
    for query_id, row in run.items():
        yield query_id, ordered(query_id, row)


def trec_run(rows: Iterable[tuple[str, Iterable[tuple[str, float]]]], *, tag: str) -> str:
    """Write the text of a TREC run file for queries with their documents in order.

    A score that is not below the previous one is lowered to the next float32, so that trec_eval,
    which does not read the ranks, keeps the order.
    """
    return "".join(
        f"{query_id} Q0 {doc_id} {rank} {score!r} {tag}\n"
        for query_id, hits in rows
        for rank, (doc_id, score) in enumerate(_falling(hits), start=1)
    )


def _falling(hits: Iterable[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    last = np.float32(math.inf)
    for doc_id, score in hits:
        if np.float32(score) < last:
            last = np.float32(score)
        else:
            last = np.nextafter(last, np.float32(-math.inf))
            score = float(last)
        yield doc_id, score


def _parse(name: str) -> "Measure":
    """Parse the name of a measure that can be computed."""
    library = require("ir_measures", extra="evaluate")
    try:
        measure: Measure = library.parse_measure(name)
        if measure.params.get("cutoff", 1) < 1:  # trec_eval would end the process
            raise ValueError("the cutoff must be at least 1")
        library.evaluator([measure], {"q": {"d": 1}})
    except (NameError, ValueError, SyntaxError, KeyError, TypeError, AssertionError) as error:
        raise DataError(f"unknown measure {name!r}; examples: {', '.join(DEFAULT)}") from error
    return measure
