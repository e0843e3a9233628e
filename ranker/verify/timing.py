"""Is a query's timeout long enough for the model?  Measured here, on one thread as in Vespa.

A content node runs the model for one document after the other and looks at the clock only before
and after, so a timeout that is too short is no answer at all.
"""

import re
import time
from dataclasses import dataclass
from xml.etree import ElementTree

from ranker.contract.encode import ModelInputs, pair_inputs
from ranker.export.score import Scorer
from ranker.package.application import Package

__all__ = ["Timeout", "hopeless", "seconds_per_pair", "timeouts", "too_short"]

VESPA_DEFAULT_S = 0.5
"""Timeout of a query that names none, where the query profile has none either."""

QUERY_PROFILE = "search/query-profiles/default.xml"
MEASUREMENTS = 5

_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "ks": 1e3}


@dataclass(frozen=True)
class Timeout:
    """Seconds that a query may take, and who says so."""

    seconds: float
    source: str


def timeouts(package: Package) -> list[Timeout]:
    """The timeout that our own client sends, and that of requests which name none."""
    return [
        Timeout(package.manifest.timeout_s, "sent by `ranker query`"),
        _of_query_profile(package),
    ]


def seconds_per_pair(package: Package) -> float:
    """What one document of full length costs on one thread of this machine, seconds.

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
        return min(_timed(scorer, longest) for _ in range(MEASUREMENTS))
    finally:
        scorer.close()


def too_short(package: Package, seconds: float) -> list[str]:
    """A line for every timeout that reranking may not keep.

    Args:
        package: its rank profiles say how many documents are reranked.
        seconds: what one of them costs.
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
    """A line for every timeout that not even one document can keep, however few are reranked."""
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
    except (OSError, ElementTree.ParseError):  # no file, or one that Vespa's validator refuses
        texts = []
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|ms|ks|)\s*", texts[-1]) if texts else None
    if found is None:
        source = f"Vespa's own, as {QUERY_PROFILE} sets none, for requests without one"
        return Timeout(VESPA_DEFAULT_S, source)
    return Timeout(float(found[1]) * _UNITS[found[2]], f"of {QUERY_PROFILE}")


def _timed(scorer: Scorer, inputs: ModelInputs) -> float:
    start = time.perf_counter()
    scorer.run(inputs)
    return time.perf_counter() - start
