"""The checks of feed operations and search requests, by Vespa and by ourselves.

Vespa accepts some wrong ones silently (missing cells are filled with 0, an unknown input is
ignored); those are found here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App, query_body
from ranker.contract import vespa_names
from ranker.contract.spec import TokenSpec
from ranker.contract.storage import FLOAT
from ranker.errors import RankerError, ResponseError, UsageError, VerifyError
from ranker.feed.operation import operations
from ranker.records import Document
from ranker.verify.result import CheckResult, first_of
from ranker.verify.vespa.process import OpenPackage, ReadOperation

__all__ = ["body_problems", "check_feed", "check_queries", "operation_problems"]

NO_CONTENT_NODE = 10
"""Vespa's code "Backend communication error", which every good query gets here."""

TOKENS_INPUT = f"input.query({vespa_names.QUERY_TOKEN_IDS})"
SPEC_INPUT = f"input.query({vespa_names.QUERY_TOKEN_FINGERPRINT})"
HTTP_TIMEOUT_S = 60.0
REQUEST_OPERATIONS = 256
"""Operations in one request to Vespa's process."""


def check_feed(
    app: App,
    documents: Sequence[Document],
    *,
    vespa: OpenPackage | None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Read the operations that `ranker feed` would send with Vespa's own feed reader.

    Args:
        app: the application.
        documents: to feed.
        vespa: Vespa's own code with the package; None where it cannot run.
        on_progress: called with the number of operations read, and of all.
    """
    problems: list[str] = []
    made: list[dict[str, Any]] = []
    for document in documents:
        # One by one, so that a document that the feeder rejects does not hide the others.
        try:
            (operation,) = operations([document], app)
        except RankerError as error:
            problems.append(str(error))
            continue
        for model in (app, *app.others):
            ids = model.encoder.document_ids(document)
            problems += operation_problems(operation, ids, model.manifest)
        made.append(operation)
    read = 0
    try:
        while vespa is not None and read < len(made):
            batch = made[read : read + REQUEST_OPERATIONS]
            answers = vespa.process.feed(vespa.copy, batch)
            for operation, answer in zip(batch, answers, strict=True):
                problems += _read_problems(operation, answer)
            read += len(batch)
            on_progress(read, len(made))
    except VerifyError as error:  # Vespa reads no operation for this package
        problems.append(str(error))
    return CheckResult(
        name="feed",
        problems=first_of(problems),
        figures={"operations": len(made), "read_by_vespa": read},
    )


def check_queries(
    app: App,
    texts: Sequence[str],
    *,
    url: str | None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Send the requests that `ranker query` would send to Vespa's real container.

    Args:
        app: the application.
        texts: of queries; one without a word is rejected by the client, and counted.
        url: of the container; None where it cannot run.
        on_progress: called with the number of requests sent, and of all.
    """
    bodies, rejected = [], 0
    for text in texts:
        try:
            for profile in app.manifest.profiles:
                bodies.append((text, query_body(text, app, profile=profile.name)))
        except UsageError:
            rejected += 1
    problems = [line for text, body in bodies for line in body_problems(text, body, app)]
    if url is not None:
        with Http(Endpoint.of(url)) as http:
            for done, (text, body) in enumerate(bodies, start=1):
                problems += _answer_problems(http, text, body)
                on_progress(done, len(bodies))
    return CheckResult(
        name="queries",
        problems=first_of(problems),
        figures={
            "requests": len(bodies),
            "answered_by_vespa": len(bodies) if url else 0,
            "refused_by_client": rejected,
        },
    )


def operation_problems(
    operation: Mapping[str, Any], ids: Sequence[int], manifest: Manifest
) -> list[str]:
    """Find what Vespa would accept silently: tokens that are not those of the document.

    Args:
        operation: a put.
        ids: the document's token ids.
        manifest: names the fields.
    """
    spec, fields = manifest.spec, operation["fields"]
    tokens, fingerprint = manifest.token_field, manifest.fingerprint_field
    cells = manifest.storage.pack(ids, spec.document_tokens)
    problems = [
        *_tensor_problems(tokens, fields.get(tokens), cells),
        *_number_problems(fingerprint, fields.get(fingerprint), spec),
    ]
    return [f"{operation['put']}: {line}" for line in problems]


def body_problems(text: str, body: Mapping[str, Any], app: App) -> list[str]:
    """Find what Vespa would accept silently: inputs that are unknown, missing or too short.

    Args:
        text: of the query.
        body: of the request.
        app: the application.
    """
    spec = app.manifest.spec
    profile = app.manifest.profile(body["ranking.profile"])
    problems = [
        f"unknown input {key}, which Vespa would ignore"
        for key in body
        if key.startswith("input.") and key not in (TOKENS_INPUT, SPEC_INPUT)
    ]
    if profile.needs_tokens:
        ids = app.encoder.query_ids(text)
        cells = FLOAT.pack(ids, spec.query_tokens)
        problems += _tensor_problems(TOKENS_INPUT, body.get(TOKENS_INPUT), cells)
        problems += _number_problems(SPEC_INPUT, body.get(SPEC_INPUT), spec)
    return [f"profile {profile.name}, {_shown(text)}: {line}" for line in problems]


def _tensor_problems(name: str, value: object, cells: Sequence[int]) -> Iterator[str]:
    values = value.get("values") if isinstance(value, Mapping) else value
    if not isinstance(values, list):
        yield f"{name} is missing; Vespa would rank with an empty text"
    elif len(values) != len(cells):
        yield (
            f"{name} has {len(values)} cells, expected {len(cells)}; Vespa silently fills up with 0"
        )
    elif values != cells:
        yield f"{name} is {values[:8]}..., expected the ids {cells[:8]}..."


def _number_problems(name: str, value: object, spec: TokenSpec) -> Iterator[str]:
    if value != spec.fingerprint_number:
        yield f"{name} is {value!r}, expected {spec.fingerprint_number} ({spec.fingerprint})"


def _read_problems(operation: Mapping[str, Any], answer: ReadOperation) -> Iterator[str]:
    """Compare an operation with what Vespa's reader understood."""
    name, fields = operation["put"], operation["fields"]
    if answer.error is not None:
        yield f"{name}: Vespa rejects it: {answer.error}"
        return
    missing = [field for field, value in fields.items() if value and field not in answer.fields]
    if missing:
        yield f"{name}: Vespa read no value of {', '.join(missing)}"
    for field, value in fields.items():
        if isinstance(value, Mapping) and value["values"] != answer.cells.get(field):
            read = answer.cells.get(field, [])
            yield f"{name}: Vespa read {field} as {read[:8]}..., sent was {value['values'][:8]}..."


def _answer_problems(http: Http, text: str, body: Mapping[str, Any]) -> list[str]:
    """Return the container's errors, except that there is no content node."""
    response = http.post_json("/search/", body, timeout_s=HTTP_TIMEOUT_S)
    where = f"profile {body['ranking.profile']}, {_shown(text)}"
    try:
        errors = response.json()["root"].get("errors", [])
    except (ResponseError, KeyError):
        return [f"{where}: HTTP {response.status} without a search result: {response.excerpt()}"]
    return [
        f"{where}: Vespa answers with code {error['code']} ({error.get('summary', '')}): "
        f"{error.get('message', 'no message')}"
        for error in errors
        if error["code"] != NO_CONTENT_NODE
    ]


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")
