"""How long reranking takes, measured on one thread as in Vespa, and the timeouts of queries.

A content node runs the model for one document after the other and checks the time only before
and after, so a query whose timeout is too short gets no answer at all.
"""

import re
import time
from dataclasses import dataclass
from xml.etree import ElementTree

from ranker.contract.encode import pair_inputs
from ranker.export.score import Scorer
from ranker.package.application import Package

__all__ = ["Timeout", "hopeless", "seconds_per_pair", "timeouts", "too_short"]

VESPA_DEFAULT_S = 0.5
"""Vespa's timeout of a query if neither the request nor the query profile sets one."""

QUERY_PROFILE = "search/query-profiles/default.xml"
MEASUREMENTS = 5

_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "ks": 1e3}


@dataclass(frozen=True)
class Timeout:
    """Seconds that a query may take, and where they are set."""

    seconds: float
    source: str


def timeouts(package: Package) -> list[Timeout]:
    """Return the timeout that our own client sends, and that of requests without one."""
    return [
        Timeout(package.manifest.timeout_s, "sent by `ranker query`"),
        _of_query_profile(package),
    ]


def seconds_per_pair(package: Package) -> float:
    """Measure the seconds for one document of full length on one thread of this machine.

    Raises:
        SpecMismatch: the model was exported under another contract.
        ArtifactError: ONNX Runtime does not load it.
        MissingExtra: ONNX Runtime is not installed.
    """
    spec = package.spec
    scorer = Scorer(package.model, spec, threads=1)
    try:
        ids = [max(spec.cls_id, spec.sep_id, spec.pad_id, 1)]
        longest = pair_inputs(spec, [ids * spec.query_tokens], [ids * spec.document_tokens])
        times = []
        for _ in range(MEASUREMENTS):
            start = time.perf_counter()
            scorer.run(longest)
            times.append(time.perf_counter() - start)
        return min(times)  # other processes can only make it slower
    finally:
        scorer.close()


def too_short(package: Package, seconds: float) -> list[str]:
    """Write a line for every timeout that reranking may exceed.

    Args:
        package: its rank profiles say how many documents are reranked.
        seconds: for one document.
    """
    profiles = [profile for profile in package.manifest.profiles if profile.needs_tokens]
    lines = []
    for timeout in timeouts(package):
        slow = [p for p in profiles if seconds * p.rerank_count > timeout.seconds]
        if slow:
            most = max(profile.rerank_count for profile in slow)
            lines.append(
                f"rank profile {', '.join(p.name for p in slow)}: reranking {most} documents of "
                f"full length takes {seconds * most:.3g} s on one thread of this machine "
                f"({1000 * seconds:.3g} ms each), the timeout is {timeout.seconds:g} s "
                f"({timeout.source}); rerank fewer, allow more time or take a smaller model"
            )
    return lines


def hopeless(package: Package, seconds: float) -> list[str]:
    """Write a line for every timeout that even a single document exceeds."""
    return [
        f"one document of full length takes {seconds:.3g} s on one thread of this machine, longer "
        f"than the timeout of {timeout.seconds:g} s ({timeout.source}): no query with the model "
        "can succeed; allow more time or take a smaller model"
        for timeout in timeouts(package)
        if seconds > timeout.seconds
    ]


def _of_query_profile(package: Package) -> Timeout:
    try:
        fields = ElementTree.parse(package.path / QUERY_PROFILE).getroot().iter("field")
        texts = [field.text or "" for field in fields if field.get("name") == "timeout"]
    except (OSError, ElementTree.ParseError):  # no file, or one that Vespa's validators reject
        texts = []
    timeout = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|ms|ks|)\s*", texts[-1]) if texts else None
    if timeout is None:
        source = f"Vespa's own, as {QUERY_PROFILE} sets none, for requests without one"
        return Timeout(VESPA_DEFAULT_S, source)
    return Timeout(float(timeout[1]) * _UNITS[timeout[2]], f"of {QUERY_PROFILE}")
