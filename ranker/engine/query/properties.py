"""Query properties: which there are, and what their values must be.

Vespa's own, with its words for a wrong value; each is used here, has no effect here, or is refused
by name because leaving it aside would change the result.
"""

import re
from collections.abc import Mapping

from ranker.engine.errors import bad_query, illegal_query

__all__ = ["check_properties", "flag", "integer"]

_USED = {
    "ranking.profile": "text",
    "ranking.rerankCount": "integer",
    "ranking.secondPhase.rerankCount": "integer",
    "ranking.secondPhase.totalRerankCount": "integer",
    "ranking.globalPhase.rerankCount": "integer",
    **dict.fromkeys(
        "model.queryString model.type model.language model.locale model.defaultIndex "
        "model.restrict model.sources model.searchPath presentation.format presentation.summary "
        "presentation.timing presentation.format.tensors".split(),
        "text",
    ),
}

_WITHOUT_EFFECT = {
    # Knobs of Vespa's speed, which this engine does not have; its results are the exact ones.
    "ranking.queryCache": "boolean",
    "ranking.freshness": "text",
    "ranking.softtimeout.enable": "boolean",
    "ranking.softtimeout.factor": "double",
    "ranking.softtimeout.tailcost": "double",
    "ranking.matching.termwiseLimit": "double",
    "ranking.matching.numThreadsPerSearch": "integer",
    "ranking.matching.numSearchPartitions": "integer",
    "ranking.matching.minHitsPerThread": "integer",
    "ranking.matching.postFilterThreshold": "double",
    "ranking.matching.approximateThreshold": "double",
    "ranking.matching.targetHitsMaxAdjustmentFactor": "double",
    "ranking.matching.filterThreshold": "double",
    "ranking.matching.filterFirstThreshold": "double",
    "ranking.matching.filterFirstExploration": "double",
    "ranking.matching.explorationSlack": "double",
    "ranking.matching.weakand.stopwordLimit": "double",
    "ranking.matching.weakand.adjustTarget": "double",
    "ranking.matching.weakand.allowDropAll": "boolean",
    # Not a part of what an answer here has.
    "model.encoding": "text",
    "presentation.bolding": "boolean",
    "presentation.reportCoverage": "boolean",
    "trace.level": "number",
    "trace.explainLevel": "number",
    "trace.profileDepth": "number",
    "trace.timestamps": "boolean",
    "trace.query": "boolean",
}

_REFUSED = {
    "ranking.sorting": "text",
    "ranking.location": "text",
    "ranking.listFeatures": "boolean",
    "ranking.keepRankCount": "integer",
    "ranking.totalKeepRankCount": "integer",
    "ranking.rankScoreDropLimit": "double",
    "ranking.secondPhase.rankScoreDropLimit": "double",
    "ranking.globalPhase.rankScoreDropLimit": "double",
    "ranking.matchPhase.attribute": "text",
    "ranking.matchPhase.maxHits": "long",
    "ranking.matchPhase.totalMaxHits": "long",
    "ranking.matchPhase.ascending": "boolean",
    "ranking.matchPhase.maxFilterCoverage": "double",
    "ranking.matchPhase.diversity.attribute": "text",
    "ranking.matchPhase.diversity.minGroups": "long",
    "ranking.significance.useModel": "boolean",
    **dict.fromkeys(
        ("model.filter", "presentation.summaryFields", "recall", "searchChain"), "text"
    ),
}
"""What changes a result in Vespa, and is not done here."""

_REFUSED_BELOW = re.compile(
    r"ranking\.(properties|elementGap|features)\..*|select(\..*)?|collapse.*|pos\..*|streaming\..*"
)

_DECLARED = {**_USED, **_WITHOUT_EFFECT, **_REFUSED}
_PARENTS = frozenset(
    name.rsplit(".", depth)[0] for name in _DECLARED for depth in range(1, name.count(".") + 1)
)
_BITS = {"integer": 31, "long": 63}
_INTEGER = re.compile(r"[+-]?\d+")
_EMPTY = ("", "default", "{}")


def check_properties(parameters: Mapping[str, str]) -> None:
    """Check names and values that do not depend on the application.

    Args:
        parameters: under their full names (`parameters.merged`).

    Raises:
        QueryError: code 3, there is no such property or its value is of another type; code 4, it
            is not supported here.
    """
    for name, value in parameters.items():
        group = name.partition(".")[0]
        if name in _DECLARED:
            _check_kind(name, value, _DECLARED[name])
        elif group == name:
            pass  # any name may be one, for @name in YQL
        elif group == "ranking" and not _REFUSED_BELOW.fullmatch(name):
            _refuse_undeclared(name, value)
        elif group in ("model", "presentation", "trace"):
            raise illegal_query(
                f"Could not set '{name}' to '{value}': the embedded engine knows no such property; "
                f"it knows {', '.join(known for known in _DECLARED if known.startswith(group))}"
            )
        refused = name in _REFUSED or _REFUSED_BELOW.fullmatch(name)
        if refused and value not in _EMPTY:
            raise bad_query(f"'{name}' is not supported by the embedded engine (got '{value}')")
    if parameters.get("queryProfile", "default") not in _EMPTY:
        raise illegal_query(f"Could not resolve query profile '{parameters['queryProfile']}'")


def integer(parameters: Mapping[str, str], name: str, default: int, *, least: int = 0) -> int:
    """A parameter's value as Java's 32-bit integer; an empty one is the default.

    Raises:
        QueryError: code 3, it is none, or below `least`.
    """
    text = parameters.get(name, "")
    if not text:
        return default
    if not _is_integer(text, "integer"):
        raise illegal_query(f"Could not set '{name}': '{text}' is not a valid integer")
    value = int(text)
    if value < least:
        raise illegal_query(
            f"Could not set '{name}': '{name}' must be a positive number, not {value}"
        )
    return value


def flag(parameters: Mapping[str, str], name: str) -> bool:
    """Whether a parameter is set to true."""
    return parameters.get(name, "").lower() in ("true", "1")


def _check_kind(name: str, value: str, kind: str) -> None:
    if kind == "number":
        integer({name: value}, name, 0, least=-(2**31))
    elif (kind in _BITS and not _is_integer(value, kind)) or (
        kind == "double" and not _is_double(value)
    ):
        raise illegal_query(f"Could not set '{name}' to '{value}': '{value}' is not a {kind}")


def _is_integer(text: str, kind: str) -> bool:
    bound = 1 << _BITS[kind]
    return bool(_INTEGER.fullmatch(text)) and -bound <= int(text) < bound


def _is_double(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _refuse_undeclared(name: str, value: str) -> None:
    """As Vespa does below `ranking`, whose types are strict: the first step that is not there."""
    steps = name.split(".")
    parent = steps[0]
    for at, step in enumerate(steps[1:], start=1):
        path = ".".join(steps[: at + 1])
        if path not in _PARENTS and path not in _DECLARED:
            kind = "ranking_0" if parent == "ranking" else parent
            raise illegal_query(
                f"Could not set '{name}' to '{value}': '{step}' is not declared in query profile "
                f"type '{kind}', and the type is strict"
            )
        parent = step
    raise illegal_query(
        f"Could not set '{name}': '{steps[-1]}' is not a valid property in '{steps[-2]}'. See the "
        f"query api for valid keys starting by '{steps[-2]}'."
    )
