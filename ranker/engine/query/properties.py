"""Query properties: which ones there are, the types of their values, and how they are read.

Every property of Vespa is either used here, has no effect here, or is refused by name because
ignoring it would change the result.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from ranker.engine.errors import bad_query, illegal_query

__all__ = [
    "Parameters",
    "Value",
    "check_properties",
    "flag",
    "integer",
    "seconds",
    "text_of",
    "whole",
]

Value = str | int | float | bool | None | list[Any] | dict[str, Any]

Parameters = Mapping[str, Value]
"""Full names of parameters to values: texts of the URL, and values of a JSON body as they are."""


def _table(**names: str) -> dict[str, str]:
    """Return property to type, from the names of each type's properties."""
    return {name: kind for kind, listed in names.items() for name in listed.split()}


_USED = _table(
    integer="ranking.rerankCount ranking.secondPhase.rerankCount "
    "ranking.secondPhase.totalRerankCount ranking.globalPhase.rerankCount",
    setting="trace.level",
    text="ranking.profile model.queryString model.type model.language model.locale "
    "model.defaultIndex model.restrict model.sources model.searchPath presentation.format "
    "presentation.summary presentation.timing presentation.format.tensors",
)

# Controls of Vespa's speed and approximation, while the results here are always the exact ones;
# and parts of a response that this engine does not write.
_WITHOUT_EFFECT = _table(
    integer="ranking.matching.numThreadsPerSearch ranking.matching.numSearchPartitions "
    "ranking.matching.minHitsPerThread",
    double="ranking.softtimeout.factor ranking.softtimeout.tailcost "
    "ranking.matching.termwiseLimit ranking.matching.postFilterThreshold "
    "ranking.matching.approximateThreshold ranking.matching.targetHitsMaxAdjustmentFactor "
    "ranking.matching.filterThreshold ranking.matching.filterFirstThreshold "
    "ranking.matching.filterFirstExploration ranking.matching.explorationSlack "
    "ranking.matching.weakand.stopwordLimit ranking.matching.weakand.adjustTarget",
    setting="trace.explainLevel trace.profileDepth",
    text="ranking.queryCache ranking.freshness ranking.softtimeout.enable "
    "ranking.matching.weakand.allowDropAll model.encoding presentation.bolding "
    "presentation.reportCoverage trace.timestamps trace.query",
)

_REFUSED = _table(
    integer="ranking.keepRankCount ranking.totalKeepRankCount",
    long="ranking.matchPhase.maxHits ranking.matchPhase.totalMaxHits "
    "ranking.matchPhase.diversity.minGroups",
    double="ranking.rankScoreDropLimit ranking.secondPhase.rankScoreDropLimit "
    "ranking.globalPhase.rankScoreDropLimit ranking.matchPhase.maxFilterCoverage",
    text="ranking.sorting ranking.location ranking.listFeatures ranking.matchPhase.attribute "
    "ranking.matchPhase.ascending ranking.matchPhase.diversity.attribute "
    "ranking.significance.useModel model.filter presentation.summaryFields recall searchChain",
)
_REFUSED_BELOW = re.compile(
    r"ranking\.(properties|elementGap|features)\..*|select(\..*)?|collapse.*|pos\..*|streaming\..*"
)

_KINDS = {**_USED, **_WITHOUT_EFFECT, **_REFUSED}
_CLOSED = ("ranking", "model", "presentation", "trace")
"""Groups in which an unknown name is refused; elsewhere it may be one for `@name` in YQL."""

_BITS = {"integer": 32, "long": 64}
_UNSET: tuple[Value, ...] = ("", "default", "{}", {})
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|ms|ks)?")
_UNITS = {"s": 1.0, "ms": 0.001, "ks": 1000.0, None: 1.0}


def check_properties(parameters: Parameters) -> None:
    """Check names and values that do not depend on the application.

    Raises:
        QueryError: code 3 for an unknown property or a value of another type; code 4 for a property
            that is not supported here.
    """
    for name, value in parameters.items():
        refused = name in _REFUSED or _REFUSED_BELOW.fullmatch(name)
        group = name.partition(".")[0]
        if name in _KINDS:
            _check_kind(name, value, _KINDS[name])
        elif group != name and group in _CLOSED and not refused:
            known = ", ".join(other for other in _KINDS if other.startswith(f"{group}."))
            raise illegal_query(f"unknown property '{name}'; expected one of {known}")
        if refused and value not in _UNSET:
            raise bad_query(
                f"'{name}' is not supported by the embedded engine, got {text_of(value)!r:.80}"
            )
    if (profile := parameters.get("queryProfile", "default")) not in _UNSET:
        raise illegal_query(f"'queryProfile': expected default, got {text_of(profile)!r:.80}")


def text_of(value: Value) -> str:
    """Return a value as text; anything but a string as it is in JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def integer(parameters: Parameters, name: str, default: int, *, least: int = 0) -> int:
    """Read a parameter as a signed integer of 32 bits; an empty one is the default.

    Raises:
        QueryError: code 3 for another value, or one below `least`.
    """
    value = parameters.get(name, "")
    if value == "":
        return default
    number = whole(value)
    if number is None or number < least:
        wanted = "a whole number" if least < 0 else f"a whole number of at least {least}"
        raise illegal_query(f"'{name}': expected {wanted}, got {text_of(value)!r:.80}")
    return number


def flag(parameters: Parameters, name: str) -> bool:
    """Return True if a parameter is set to true."""
    return text_of(parameters.get(name, "")).lower() in ("true", "1")


def seconds(text: str) -> float:
    """Read a duration like `5`, `5s`, `300ms` or `1ks`.

    Raises:
        ValueError: the text is not a duration.
    """
    duration = _DURATION.fullmatch(text.strip())
    if not duration:
        raise ValueError(f"expected a duration like 5, 5s or 300ms, got {text!r:.80}")
    return float(duration[1]) * _UNITS[duration[2]]


def whole(value: Value, *, bits: int = 32) -> int | None:
    """Return a number, or a text of digits, as a signed integer; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,1000}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    bound = 1 << bits - 1
    return value if -bound <= value < bound else None


def _check_kind(name: str, value: Value, kind: str) -> None:
    if kind == "setting":  # an integer that may be empty
        integer({name: value}, name, 0, least=-(2**31))
    elif (kind in _BITS and whole(value, bits=_BITS[kind]) is None) or (
        kind == "double" and not _is_double(value)
    ):
        article = "an" if kind == "integer" else "a"
        raise illegal_query(f"'{name}': expected {article} {kind}, got {text_of(value)!r:.80}")


def _is_double(value: Value) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return "_" not in value
    return isinstance(value, int | float) and not isinstance(value, bool)
