"""A search request: parameters to a checked, typed value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ranker import contract
from ranker.engine.faults import QueryFault, bad_query, illegal_query
from ranker.engine.fields import kind_of
from ranker.engine.tensors import TensorError, query_cells, type_name
from ranker.engine.userquery import TYPES
from ranker.engine.yql import Context, Statement, parse_yql, user_query
from ranker.errors import UsageError
from ranker.manifest import Manifest, Profile

__all__ = ["CLUSTER", "DEFAULT", "MOST_HITS", "MOST_OFFSET", "Request", "parse_request", "seconds"]

CLUSTER = "content"
"""Id of the content cluster in the package's services.xml."""

MOST_HITS = 400
MOST_OFFSET = 1000
LARGEST_RERANK = 10_000

DEFAULT = Profile(name="default", phase="first", bm25_weight=1.0, logit_weight=0.0)
"""The profile of a request that names none.  In Vespa it ranks by nativeRank, here by BM25."""

_LIMITS = "See https://docs.vespa.ai/en/reference/api/query.html#native-execution-parameters"
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|ms|ks)?")
_UNITS = {"s": 1.0, "ms": 0.001, "ks": 1000.0, None: 1.0}

_KNOWN = {
    "ranking": (
        "profile rerankCount secondPhase.rerankCount secondPhase.totalRerankCount "
        "globalPhase.rerankCount"
    ),
    "model": "queryString type language locale encoding defaultIndex restrict sources searchPath",
    "presentation": "format summary timing bolding format.tensors reportCoverage",
    "trace": "level timestamps explainLevel profileDepth query",
    "select": "",
}
_WITHOUT_EFFECT = re.compile(r"ranking\.(queryCache|freshness|softtimeout\..*|matching\..*)")
"""Knobs of Vespa's speed, which this engine does not have; its results are the exact ones."""

_REFUSED = re.compile(
    r"(model\.filter|ranking\.(sorting|location|properties\..*|features\..*|listFeatures"
    r"|keepRankCount|rankScoreDropLimit|secondPhase\.rankScoreDropLimit|globalPhase\.rankScoreDropLimit"
    r"|matchPhase\..*|diversity\..*|significance.*|elementGap\..*)|select(\..*)?|recall"
    r"|collapse.*|pos\..*|queryProfile|searchChain|streaming\..*|presentation\.summaryFields)"
)
"""What changes a result in Vespa, and is not done here."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A search request.

    Attributes:
        statement: what matches, in which order, with which fields.
        profile: the rank profile, its rerank count overridden where the request says so.
        query_ids: the query's token ids; empty for a profile that needs none.
        hits, offset: the page.
        timeout_s: time for the answer, seconds.
        summary: the summary class.
        timing: whether the answer tells its times.
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


def parse_request(parameters: Mapping[str, str], manifest: Manifest) -> Request:
    """The request of flat parameters (`parameters.merged`).

    Raises:
        QueryFault: code 3 or 4, with Vespa's words where Vespa refuses too.
    """
    _check_names(parameters)
    timeout_s = _timeout(parameters, manifest)
    hits, offset = _page(parameters)
    profile = _profile(parameters, manifest)
    inputs = _inputs(parameters, manifest)
    statement = _statement(parameters, manifest)
    if statement.tree is None:
        raise illegal_query("No query")
    if statement.hits is not None:
        hits = _within(statement.hits, MOST_HITS, "{0} hits returned, but max hits allowed is {1}.")
    if statement.offset is not None:
        message = "offset {0}, but the max offset allowed is {1}."
        offset = _within(statement.offset, MOST_OFFSET, message)
    if profile.phase == "global" and statement.order:
        raise illegal_query("Sorting is not supported with global phase")
    return Request(
        statement=statement,
        profile=profile,
        query_ids=_query_ids(profile, inputs, manifest) if profile.needs_tokens else [],
        hits=hits,
        offset=offset,
        timeout_s=timeout_s if statement.timeout_s is None else statement.timeout_s,
        summary=_summary(parameters),
        timing=_flag(parameters, "presentation.timing"),
        trace_level=_integer(parameters, "trace.level", 0),
    )


def seconds(text: str) -> float:
    """A duration as `5`, `5s`, `300ms` or `1ks`.

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"Error parsing '{text}': Invalid number '{text}'")
    return float(found[1]) * _UNITS[found[2]]


def _check_names(parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        group, _, rest = name.partition(".")
        if _REFUSED.fullmatch(name) and value not in ("", "default", "{}"):
            raise bad_query(f"'{name}' is not supported by the embedded engine (got '{value}')")
        if group not in _KNOWN or not rest or _WITHOUT_EFFECT.fullmatch(name):
            continue
        if rest not in _KNOWN[group].split() and not _REFUSED.fullmatch(name):
            raise illegal_query(
                f"Could not set '{name}' to '{value}': '{rest}' is not a valid property in "
                f"'{group}'. Known here are: {_KNOWN[group]}"
            )


def _timeout(parameters: Mapping[str, str], manifest: Manifest) -> float:
    if "timeout" not in parameters:
        return manifest.timeout_s
    try:
        return seconds(parameters["timeout"])
    except ValueError as error:
        raise illegal_query(f"Could not set 'timeout': {error}") from error


def _page(parameters: Mapping[str, str]) -> tuple[int, int]:
    hits = _integer(parameters, "hits", 10)
    offset = _integer(parameters, "offset", 0)
    if hits > MOST_HITS:
        raise illegal_query(f"{hits} hits requested, configured limit: {MOST_HITS}. {_LIMITS}")
    if offset > MOST_OFFSET:
        raise illegal_query(
            f"Offset of {offset} requested, configured limit: {MOST_OFFSET}. {_LIMITS}"
        )
    return hits, offset


def _within(value: int, most: int, message: str) -> int:
    if value < 0:
        raise QueryFault(17, f"Illegal YQL query: 'hits' must be a positive number, not {value}")
    if value > most:
        raise bad_query("Requested " + message.format(value, most))
    return value


def _profile(parameters: Mapping[str, str], manifest: Manifest) -> Profile:
    name = parameters.get("ranking.profile") or DEFAULT.name
    if name == DEFAULT.name and name not in [profile.name for profile in manifest.profiles]:
        return DEFAULT
    try:
        profile = manifest.profile(name)
    except UsageError as error:
        known = ", ".join(profile.name for profile in manifest.profiles)
        raise bad_query(
            f"schema '{manifest.schema}' does not contain requested rank profile '{name}' "
            f"(it has {known})"
        ) from error
    return _with_rerank_count(profile, parameters)


def _with_rerank_count(profile: Profile, parameters: Mapping[str, str]) -> Profile:
    own = {
        # With one node, the total over all nodes is the same number.
        "second": (
            "ranking.rerankCount",
            "ranking.secondPhase.rerankCount",
            "ranking.secondPhase.totalRerankCount",
        ),
        "global": ("ranking.globalPhase.rerankCount",),
    }
    names = (*own["second"], *own["global"])
    counts = {name: _integer(parameters, name, -1) for name in names if name in parameters}
    for name in own.get(profile.phase, ()):
        if name in counts:
            if counts[name] > LARGEST_RERANK:
                raise illegal_query(
                    f"Could not set '{name}' to '{counts[name]}': at most {LARGEST_RERANK}"
                )
            values = {key: getattr(profile, key) for key in profile.__dataclass_fields__}
            profile = Profile(**{**values, "rerank_count": counts[name]})
    return profile


def _statement(parameters: Mapping[str, str], manifest: Manifest) -> Statement:
    context = Context(
        parameters=parameters,
        query=parameters.get("model.queryString", ""),
        type=_query_type(parameters),
        default=parameters.get("model.defaultIndex") or "default",
        schema=manifest.schema,
        cluster=CLUSTER,
    )
    _check_model(parameters, manifest)
    kind_of(context.default)
    try:
        if "yql" in parameters:
            return parse_yql(parameters["yql"], context)
        return Statement(tree=user_query(context))
    except RecursionError as error:
        raise bad_query("the query is nested too deeply") from error


def _query_type(parameters: Mapping[str, str]) -> str:
    type_ = parameters.get("model.type", "weakAnd")
    if type_ not in TYPES:
        raise illegal_query(f"Could not set 'model.type': No query type '{type_}'")
    return type_


def _check_model(parameters: Mapping[str, str], manifest: Manifest) -> None:
    known = (CLUSTER, f"{CLUSTER}.{manifest.schema}", manifest.schema)
    for name in ("model.restrict", "model.sources"):
        for source in filter(None, parameters.get(name, "").replace(" ", "").split(",")):
            if source not in known:
                raise bad_query(
                    f"Could not resolve source ref '{source}'. "
                    f"Valid source refs are {', '.join(known[:2])}."
                )
    language = parameters.get("model.language") or parameters.get("model.locale") or "en"
    if not re.fullmatch(r"en([-_].*)?", language, re.IGNORECASE):
        raise bad_query(
            f"'model.language' is '{language}': the embedded engine stems English only; "
            "leave it out, or use en"
        )
    if parameters.get("presentation.format", "json") not in ("json", "default", "cbor"):
        raise bad_query(
            f"'presentation.format' is '{parameters['presentation.format']}': "
            "the embedded engine answers in json"
        )


def _inputs(parameters: Mapping[str, str], manifest: Manifest) -> dict[str, list[float]]:
    """The declared inputs of the request, as numbers."""
    found: dict[str, list[float]] = {}
    cells = manifest.spec.query_tokens
    name = f"input.query({contract.QUERY_TOKEN_IDS})"
    shown = f"ranking.features.query({contract.QUERY_TOKEN_IDS})"
    if name in parameters:
        text = parameters[name]
        try:
            found[contract.QUERY_TOKEN_IDS] = query_cells(text, cells)
        except TensorError as error:
            raise illegal_query(
                f"Could not set '{shown}' to '{text}': "
                f"Could not parse '{text}' as a tensor of type {type_name(cells)}: {error}"
            ) from error
    spec = f"input.query({contract.QUERY_TOKEN_SPEC})"
    if spec in parameters:
        try:
            found[contract.QUERY_TOKEN_SPEC] = [float(parameters[spec])]
        except ValueError as error:
            raise illegal_query(
                f"Could not set 'ranking.features.query({contract.QUERY_TOKEN_SPEC})' to "
                f"'{parameters[spec]}': '{parameters[spec]}' is not a double"
            ) from error
    return found


def _query_ids(
    profile: Profile, inputs: Mapping[str, list[float]], manifest: Manifest
) -> list[int]:
    """The ids that Vespa's token functions would take: as many cells as there are above 0.

    Vespa ranks a query without tokens as an empty text and knows no contract; both are refused.
    """
    spec = manifest.spec
    ours = f"this application's is {spec.fingerprint_number} ({spec.fingerprint})"
    how = "tokenize the query with this application's tokenizer (`ranker query` does)"
    given = inputs.get(contract.QUERY_TOKEN_SPEC)
    if given is not None and given[0] != spec.fingerprint_number:
        raise bad_query(
            f"the query's token contract, input.query({contract.QUERY_TOKEN_SPEC}), is "
            f"{given[0]:.0f}, {ours}; {how}"
        )
    cells = inputs.get(contract.QUERY_TOKEN_IDS, [])
    for cell in cells:
        if cell != int(cell) or not 0 <= cell < spec.vocabulary_size:
            raise bad_query(
                f"input.query({contract.QUERY_TOKEN_IDS}) holds {cell:g}: expected token ids "
                f"from 0 to {spec.vocabulary_size - 1}; {how}"
            )
    ids = [int(cell) for cell in cells[: sum(cell > 0 for cell in cells)]]
    if not ids:
        what = "is all zero" if cells else "is missing"
        raise bad_query(
            f"input.query({contract.QUERY_TOKEN_IDS}) {what}: rank profile '{profile.name}' needs "
            f"the query's token ids under the application's token contract, and {ours}; {how}"
        )
    return ids


def _summary(parameters: Mapping[str, str]) -> str:
    name = parameters.get("presentation.summary") or "default"
    if name not in ("default", contract.IDS_SUMMARY):
        raise bad_query(f"invalid presentation.summary={name}")
    return name


def _integer(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError as error:
        raise illegal_query(f"Could not set '{name}': '{text}' is not a valid integer") from error
    if value < 0:
        raise illegal_query(
            f"Could not set '{name}': '{name}' must be a positive number, not {value}"
        )
    return value


def _flag(parameters: Mapping[str, str], name: str) -> bool:
    return parameters.get(name, "").lower() in ("true", "1")
