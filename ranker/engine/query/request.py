"""A search request: parameters become a checked, typed value."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile
from ranker.contract import vespa_names
from ranker.contract.storage import FLOAT
from ranker.engine.documents.tensors import TensorError, query_cells
from ranker.engine.errors import QueryError, bad_query, illegal_query
from ranker.engine.query.fields import DEFAULT_FIELD, searched_field
from ranker.engine.query.properties import (
    Parameters,
    check_properties,
    flag,
    integer,
    seconds,
    text_of,
)
from ranker.engine.query.userquery import TYPES
from ranker.engine.query.yql import Context, Statement, check_source, parse_yql, user_query

__all__ = ["CLUSTER", "DEFAULT", "UNRANKED", "Request", "parse_request"]

CLUSTER = "content"
"""Id of the content cluster in the package's services.xml."""

MOST_HITS = 400
MOST_OFFSET = 1000
"""Vespa's limits where a query profile sets no others."""

LARGEST_RERANK = 10_000

DEFAULT = Profile(name="default", phase="first", bm25_weight=1.0, logit_weight=0.0)
"""The profile of a request that names none.  In Vespa it ranks by nativeRank, here by BM25."""

UNRANKED = Profile(name="unranked", phase="first", bm25_weight=0.0, logit_weight=0.0)
"""A profile that every schema of Vespa has."""

_FORMATS = ("json", "default", "cbor")
_TENSOR_FORMATS = ("long", "short", "long-value", "short-value")
_NODES = r"(\*|\[?\d+(,\d+)*>?)?"
_SEARCH_PATH = re.compile(rf"{_NODES}(/{_NODES})?(;{_NODES}(/{_NODES})?)*")
"""Nodes and group; with one node, all that are possible mean the same."""

_RERANK_COUNTS = {
    # With one node, the total over all nodes is the same number.
    "ranking.rerankCount": "second",
    "ranking.secondPhase.rerankCount": "second",
    "ranking.secondPhase.totalRerankCount": "second",
    "ranking.globalPhase.rerankCount": "global",
}
"""Property → the phase whose rerank count it sets; a later one overrides an earlier one."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A search request.

    Attributes:
        statement: what matches, in which order, with which fields.
        profile: the rank profile, its rerank count overridden where the request does so.
        query_ids: the query's token ids; empty for a profile that needs none.
        hits, offset: the page.
        timeout_s: time for the response, seconds.
        summary: the summary class.
        timing: True if the response reports its times.
        trace_level: 0 for no trace.
    """

    statement: Statement
    profile: Profile
    query_ids: list[int] = field(default_factory=list)
    hits: int = 10
    offset: int = 0
    timeout_s: float
    summary: str = "default"
    timing: bool = False
    trace_level: int = 0


def parse_request(parameters: Parameters, manifest: Manifest) -> Request:
    """Return the request of flat parameters.

    Args:
        parameters: under their full names (`http.parameters.merged`).
        manifest: the application.

    Raises:
        QueryError: code 3, 4 or 17, as in Vespa where Vespa refuses the request too.
    """
    check_properties(parameters)
    _one_of(parameters, "presentation.format", _FORMATS)
    _one_of(parameters, "presentation.format.tensors", _TENSOR_FORMATS)
    timeout_s = _timeout(parameters, manifest)
    hits = _within(integer(parameters, "hits", 10), "hits", MOST_HITS, illegal_query)
    offset = _within(integer(parameters, "offset", 0), "offset", MOST_OFFSET, illegal_query)
    inputs = _inputs(parameters, manifest)
    statement = _statement(parameters, manifest)
    if statement.tree is None:
        raise illegal_query(
            "the query has no word; give 'query' or a condition in 'yql'", in_cluster=True
        )
    if statement.offset is not None:
        offset = _within(statement.offset, "offset", MOST_OFFSET, bad_query)
    if statement.hits is not None:
        hits = _within(statement.hits, "hits", MOST_HITS, bad_query)
    profile = _profile(parameters, manifest)
    if profile.phase == "global" and statement.order:
        message = (
            f"the rank profile '{profile.name}' has a global phase; drop 'order by' or use another"
        )
        raise illegal_query(message, in_cluster=True)
    return Request(
        statement=statement,
        profile=profile,
        query_ids=_query_ids(profile, inputs, manifest) if profile.needs_tokens else [],
        hits=hits,
        offset=offset,
        timeout_s=timeout_s if statement.timeout_s is None else statement.timeout_s,
        summary=_summary(parameters),
        timing=flag(parameters, "presentation.timing"),
        trace_level=integer(parameters, "trace.level", 0, least=-(2**31)),
    )


def _text(parameters: Parameters, name: str, default: str = "") -> str:
    return text_of(parameters.get(name, default))


def _one_of(parameters: Parameters, name: str, allowed: tuple[str, ...]) -> str:
    """Return a parameter with a value of a list, whose first one is the default."""
    value = _text(parameters, name, allowed[0])
    if value not in allowed:
        raise illegal_query(f"'{name}': expected one of {', '.join(allowed)}, got '{value:.80}'")
    return value


def _within(value: int, name: str, most: int, error: Callable[[str], QueryError]) -> int:
    if value < 0:  # only of a statement, whose limit may be below its offset
        raise QueryError(17, f"'{name}': expected at least 0, got {value}")
    if value > most:
        raise error(f"'{name}': expected at most {most}, got {value}")
    return value


def _timeout(parameters: Parameters, manifest: Manifest) -> float:
    if "timeout" not in parameters:
        return manifest.timeout_s
    try:
        return seconds(_text(parameters, "timeout"))
    except ValueError as error:
        raise illegal_query(f"'timeout': {error}") from error


def _profile(parameters: Parameters, manifest: Manifest) -> Profile:
    """Return the rank profile of the request, with the request's rerank count."""
    profiles = {profile.name: profile for profile in (DEFAULT, UNRANKED, *manifest.profiles)}
    name = _text(parameters, "ranking.profile") or DEFAULT.name
    if name not in profiles:
        raise bad_query(
            f"the schema '{manifest.schema}' has no rank profile '{name}'; expected one of "
            f"{', '.join(profiles)}",
            in_cluster=True,
        )
    profile = profiles[name]
    if profile in (DEFAULT, UNRANKED):  # Vespa reads no rerank count for them
        return profile
    for property_, phase in _RERANK_COUNTS.items():
        if property_ in parameters:
            count = integer(parameters, property_, 0)
            if phase == profile.phase:
                count = _within(count, property_, LARGEST_RERANK, illegal_query)
                profile = replace(profile, rerank_count=count)
    return profile


def _statement(parameters: Parameters, manifest: Manifest) -> Statement:
    context = Context(
        parameters=parameters,
        query=_text(parameters, "model.queryString"),
        type=_one_of(parameters, "model.type", TYPES),
        default=_text(parameters, "model.defaultIndex") or DEFAULT_FIELD,
        sources=(manifest.schema, CLUSTER, f"{CLUSTER}.{manifest.schema}"),
    )
    for name in ("model.restrict", "model.sources"):
        for source in filter(None, _text(parameters, name).replace(" ", "").split(",")):
            check_source(source, context.sources)
    language = _text(parameters, "model.language") or _text(parameters, "model.locale") or "en"
    if not re.fullmatch(r"en([-_].*)?", language, re.IGNORECASE):
        raise bad_query(
            f"the embedded engine stems English only, got 'language={language}'; leave it out or "
            "use en"
        )
    path = _text(parameters, "model.searchPath")
    if not _SEARCH_PATH.fullmatch(path):
        message = f"'searchPath': expected nodes and group like 0/0, got '{path}'"
        raise illegal_query(message, in_cluster=True)
    searched_field(context.default)
    try:
        if "yql" in parameters:
            return parse_yql(_text(parameters, "yql"), context)
        return Statement(tree=user_query(context))
    except RecursionError as error:
        raise bad_query("the query is nested too deeply") from error


def _inputs(parameters: Parameters, manifest: Manifest) -> dict[str, list[float]]:
    """Return the declared inputs of the request, by name."""
    inputs: dict[str, list[float]] = {}
    kind = FLOAT.tensor_type(manifest.spec.query_tokens)
    for name in (vespa_names.QUERY_TOKEN_IDS, vespa_names.QUERY_TOKEN_FINGERPRINT):
        parameter = f"input.query({name})"
        if parameter not in parameters:
            continue
        value = parameters[parameter]
        try:
            if name == vespa_names.QUERY_TOKEN_IDS:
                inputs[name] = query_cells(value, kind)
            else:
                inputs[name] = [float(text_of(value))]
        except TensorError as error:
            raise illegal_query(f"'{parameter}': {error}") from error
        except ValueError as error:
            message = f"'{parameter}': expected a number, got {text_of(value)!r:.80}"
            raise illegal_query(message) from error
    return inputs


def _query_ids(
    profile: Profile, inputs: Mapping[str, list[float]], manifest: Manifest
) -> list[int]:
    """Return the ids that Vespa's token functions would use: as many cells as are above 0.

    Vespa scores a query without tokens as an empty text and knows no contract; both are refused.
    """
    spec, parameter = manifest.spec, f"input.query({vespa_names.QUERY_TOKEN_IDS})"
    advice = "tokenize the query with this application's tokenizer (`ranker query` does)"
    ours = f"this application has {spec.fingerprint_number} ({spec.fingerprint})"
    (fingerprint,) = inputs.get(vespa_names.QUERY_TOKEN_FINGERPRINT, [spec.fingerprint_number])
    cells = inputs.get(vespa_names.QUERY_TOKEN_IDS, [])
    illegal = [cell for cell in cells if cell != int(cell) or not 0 <= cell < spec.vocabulary_size]
    ids = [int(cell) for cell in cells[: sum(cell > 0 for cell in cells)]]
    if fingerprint != spec.fingerprint_number:
        problem = (
            f"the query was tokenized under the token contract {fingerprint:.0f} "
            f"(input.query({vespa_names.QUERY_TOKEN_FINGERPRINT})), {ours}"
        )
    elif illegal:
        problem = (
            f"{parameter}: expected token ids from 0 to {spec.vocabulary_size - 1}, "
            f"got {illegal[0]:g}"
        )
    elif not ids:
        problem = (
            f"{parameter} {'is all zero' if cells else 'is missing'}: the rank profile "
            f"'{profile.name}' needs the query's token ids under the application's token contract; "
            f"{ours}"
        )
    else:
        return ids
    raise bad_query(f"{problem}; {advice}", in_cluster=True)


def _summary(parameters: Parameters) -> str:
    name = _text(parameters, "presentation.summary") or "default"
    if name not in ("default", vespa_names.IDS_SUMMARY):
        raise bad_query(
            f"unknown summary '{name}'; expected default or {vespa_names.IDS_SUMMARY}",
            in_cluster=True,
        )
    return name
