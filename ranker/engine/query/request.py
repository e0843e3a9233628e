"""A search request: parameters to a checked, typed value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile
from ranker.contract import vespa_names
from ranker.contract.storage import FLOAT
from ranker.engine.documents.tensors import TensorError, query_cells
from ranker.engine.errors import QueryError, bad_in_cluster, bad_query, illegal_query
from ranker.engine.query.fields import kind_of
from ranker.engine.query.properties import check_properties, flag, integer
from ranker.engine.query.userquery import TYPES
from ranker.engine.query.yql import Context, Statement, parse_yql, user_query
from ranker.errors import UsageError

__all__ = [
    "CLUSTER",
    "DEFAULT",
    "MOST_HITS",
    "MOST_OFFSET",
    "UNRANKED",
    "Request",
    "parse_request",
    "seconds",
]

CLUSTER = "content"
"""Id of the content cluster in the package's services.xml."""

MOST_HITS = 400
MOST_OFFSET = 1000
LARGEST_RERANK = 10_000

DEFAULT = Profile(name="default", phase="first", bm25_weight=1.0, logit_weight=0.0)
"""The profile of a request that names none.  In Vespa it ranks by nativeRank, here by BM25."""

UNRANKED = Profile(name="unranked", phase="first", bm25_weight=0.0, logit_weight=0.0)
"""Every schema of Vespa has it."""

_LIMITS = "See https://docs.vespa.ai/en/reference/api/query.html#native-execution-parameters"
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|ms|ks)?")
_UNITS = {"s": 1.0, "ms": 0.001, "ks": 1000.0, None: 1.0}

_FORMATS = ("json", "default", "cbor")
_TENSORS = ("long", "short", "long-value", "short-value")
_NODES = r"(\*|\[?\d+(,\d+)*>?)?"
_SEARCH_PATH = re.compile(rf"{_NODES}(/{_NODES})?(;{_NODES}(/{_NODES})?)*")
"""Nodes and group; with one node, all that are possible mean the same."""


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
        QueryError: code 3 or 4, with Vespa's words where Vespa refuses too.
    """
    check_properties(parameters)
    _check_presentation(parameters)
    timeout_s = _timeout(parameters, manifest)
    page = _page(parameters)
    inputs = _inputs(parameters, manifest)
    statement = _statement(parameters, manifest)
    if statement.tree is None:
        raise QueryError(3, "No query", in_cluster=True)
    hits, offset = _own_page(statement, page)
    profile = _profile(parameters, manifest)
    if profile.phase == "global" and statement.order:
        raise QueryError(3, "Sorting is not supported with global phase", in_cluster=True)
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


def seconds(text: str) -> float:
    """A duration as `5`, `5s`, `300ms` or `1ks`.

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"Error parsing '{text}': Invalid number '{text}'")
    return float(found[1]) * _UNITS[found[2]]


def _timeout(parameters: Mapping[str, str], manifest: Manifest) -> float:
    if "timeout" not in parameters:
        return manifest.timeout_s
    try:
        return seconds(parameters["timeout"])
    except ValueError as error:
        raise illegal_query(f"Could not set 'timeout': {error}") from error


def _page(parameters: Mapping[str, str]) -> tuple[int, int]:
    hits = integer(parameters, "hits", 10)
    offset = integer(parameters, "offset", 0)
    if hits > MOST_HITS:
        raise illegal_query(f"{hits} hits requested, configured limit: {MOST_HITS}. {_LIMITS}")
    if offset > MOST_OFFSET:
        raise illegal_query(
            f"Offset of {offset} requested, configured limit: {MOST_OFFSET}. {_LIMITS}"
        )
    return hits, offset


def _own_page(statement: Statement, page: tuple[int, int]) -> tuple[int, int]:
    """Hits and offset, those of the statement if it has any."""
    hits, offset = page
    if statement.offset is not None:
        message = "offset {0}, but the max offset allowed is {1}."
        offset = _within("offset", statement.offset, MOST_OFFSET, message)
    if statement.hits is not None:
        message = "{0} hits returned, but max hits allowed is {1}."
        hits = _within("hits", statement.hits, MOST_HITS, message)
    return hits, offset


def _within(name: str, value: int, most: int, message: str) -> int:
    if value < 0:
        raise QueryError(17, f"Illegal YQL query: '{name}' must be a positive number, not {value}")
    if value > most:
        raise bad_query("Requested " + message.format(value, most))
    return value


def _profile(parameters: Mapping[str, str], manifest: Manifest) -> Profile:
    name = parameters.get("ranking.profile") or DEFAULT.name
    if name not in [profile.name for profile in manifest.profiles]:
        for builtin in (DEFAULT, UNRANKED):
            if name == builtin.name:
                return builtin
    try:
        profile = manifest.profile(name)
    except UsageError as error:
        known = ", ".join(profile.name for profile in manifest.profiles)
        raise bad_in_cluster(
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
    counts = {name: integer(parameters, name, -1) for name in names if name in parameters}
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
    path = parameters.get("model.searchPath", "")
    if not _SEARCH_PATH.fullmatch(path):
        raise QueryError(3, f"Invalid search path '{path}'", in_cluster=True)


def _check_presentation(parameters: Mapping[str, str]) -> None:
    name = parameters.get("presentation.format", "json")
    if name not in _FORMATS:
        raise illegal_query(
            f"No renderer with id or alias '{name}'. Available renderers are: [JsonRenderer]."
        )
    tensors = parameters.get("presentation.format.tensors", "short")
    if tensors not in _TENSORS:
        raise illegal_query(
            "Could not set 'presentation.format.tensors': Value must be 'long', 'short', "
            f"'long-value', or 'short-value', not '{tensors}'"
        )


def _inputs(parameters: Mapping[str, str], manifest: Manifest) -> dict[str, list[float]]:
    """The declared inputs of the request, as numbers."""
    found: dict[str, list[float]] = {}
    kind = FLOAT.tensor_type(manifest.spec.query_tokens)
    name = f"input.query({vespa_names.QUERY_TOKEN_IDS})"
    shown = f"ranking.features.query({vespa_names.QUERY_TOKEN_IDS})"
    if name in parameters:
        text = parameters[name]
        try:
            found[vespa_names.QUERY_TOKEN_IDS] = query_cells(text, kind)
        except TensorError as error:
            raise illegal_query(
                f"Could not set '{shown}' to '{text}': "
                f"Could not parse '{text}' as a tensor of type {kind}: {error}"
            ) from error
    spec = f"input.query({vespa_names.QUERY_TOKEN_FINGERPRINT})"
    if spec in parameters:
        try:
            found[vespa_names.QUERY_TOKEN_FINGERPRINT] = [float(parameters[spec])]
        except ValueError as error:
            raise illegal_query(
                f"Could not set 'ranking.features.query({vespa_names.QUERY_TOKEN_FINGERPRINT})' to "
                f"'{parameters[spec]}': Could not parse '{parameters[spec]}' as a tensor of type "
                "tensor(): Expected a number"
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
    given = inputs.get(vespa_names.QUERY_TOKEN_FINGERPRINT)
    if given is not None and given[0] != spec.fingerprint_number:
        raise bad_in_cluster(
            f"the query's token contract, input.query({vespa_names.QUERY_TOKEN_FINGERPRINT}), is "
            f"{given[0]:.0f}, {ours}; {how}"
        )
    cells = inputs.get(vespa_names.QUERY_TOKEN_IDS, [])
    for cell in cells:
        if cell != int(cell) or not 0 <= cell < spec.vocabulary_size:
            raise bad_in_cluster(
                f"input.query({vespa_names.QUERY_TOKEN_IDS}) holds {cell:g}: expected token ids "
                f"from 0 to {spec.vocabulary_size - 1}; {how}"
            )
    ids = [int(cell) for cell in cells[: sum(cell > 0 for cell in cells)]]
    if not ids:
        what = "is all zero" if cells else "is missing"
        raise bad_in_cluster(
            f"input.query({vespa_names.QUERY_TOKEN_IDS}) {what}: rank profile '{profile.name}' "
            f"needs the query's token ids under the application's token contract, and {ours}; {how}"
        )
    return ids


def _summary(parameters: Mapping[str, str]) -> str:
    name = parameters.get("presentation.summary") or "default"
    if name not in ("default", vespa_names.IDS_SUMMARY):
        raise bad_in_cluster(f"invalid presentation.summary={name}")
    return name
