"""What goes over the wire: feed operations and search requests, as Vespa and as we see them.

Vespa takes some wrong ones without a word (too few cells are filled with 0, an unknown input is
left aside); those are caught here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App, query_body
from ranker.contract import vespa_names
from ranker.contract.encode import zero_pad
from ranker.contract.spec import TokenSpec
from ranker.errors import RankerError, ResponseError, UsageError
from ranker.feed.operation import operations
from ranker.records import Document
from ranker.verify.result import CheckResult, first_of
from ranker.verify.vespa.court import Court
from ranker.verify.vespa.process import Operation

__all__ = ["body_problems", "check_feed", "check_queries", "operation_problems"]

NO_CONTENT_NODE = 10
"""Vespa's code "Backend communication error": all that may be wrong with a good query here."""

TOKENS_INPUT = f"input.query({vespa_names.QUERY_TOKEN_IDS})"
SPEC_INPUT = f"input.query({vespa_names.QUERY_TOKEN_FINGERPRINT})"
HTTP_TIMEOUT_S = 60.0
QUESTION = 256
"""Operations in one question to the judge."""


def check_feed(
    app: App,
    documents: Sequence[Document],
    *,
    court: Court,
    on_progress: Callable[[int], None] = lambda done: None,
) -> CheckResult:
    """Read the operations that `ranker feed` would send with Vespa's own feed reader.

    Args:
        app: the application.
        documents: to feed.
        court: Vespa's feed reader.
        on_progress: called with the number of operations done.
    """
    problems: list[str] = []
    made: list[dict[str, Any]] = []
    for document in documents:
        try:
            (operation,) = operations([document], app)
        except RankerError as error:
            problems.append(str(error))
            continue
        for one in (app, *app.others):
            ids = one.encoder.document_ids(document)
            problems += operation_problems(operation, ids, one.manifest)
        made.append(operation)
    bench = court.bench
    for at in range(0, len(made) if bench else 0, QUESTION):
        assert bench is not None
        some = made[at : at + QUESTION]
        answers = bench.judge.feed(bench.app, some)
        for operation, answer in zip(some, answers, strict=True):
            problems += _read_problems(operation, answer)
        on_progress(at + len(some))
    return CheckResult(
        name="feed",
        problems=first_of(problems),
        skipped=court.skipped("the operations in Vespa's own feed reader"),
        figures={"operations": len(made), "read_by_vespa": len(made) if court.bench else 0},
    )


def check_queries(
    app: App,
    texts: Sequence[str],
    *,
    url: str | None,
    skipped: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Put the requests that `ranker query` would send to Vespa's real container.

    Args:
        app: the application.
        texts: questions; one without any word is refused by the client and counted.
        url: the container, or None where it is not to be had.
        skipped: why not, for the result.
        on_progress: called with the number of requests done, and of all.
    """
    bodies, refused = _bodies(app, texts)
    problems = [line for text, body in bodies for line in body_problems(text, body, app)]
    if url is not None:
        with Http(Endpoint.of(url)) as http:
            for done, (text, body) in enumerate(bodies, start=1):
                problems += _answer_problems(http, text, body)
                on_progress(done, len(bodies))
    return CheckResult(
        name="queries",
        problems=first_of(problems),
        skipped=tuple(skipped),
        figures={
            "requests": len(bodies),
            "answered_by_vespa": len(bodies) if url else 0,
            "refused_by_client": refused,
        },
    )


def operation_problems(
    operation: Mapping[str, Any], ids: Sequence[int], manifest: Manifest
) -> list[str]:
    """What Vespa would take in silence: tokens that are not those of the document.

    Args:
        operation: a put.
        ids: the document's token ids.
        manifest: the application's; it names the fields.
    """
    spec, fields, name = manifest.spec, operation["fields"], operation["put"]
    return [
        f"{name}: {line}"
        for line in (
            *_tensor_problems(
                manifest.token_field,
                fields.get(manifest.token_field),
                manifest.storage.pack(ids, spec.document_tokens),
            ),
            *_number_problems(
                manifest.fingerprint_field, fields.get(manifest.fingerprint_field), spec
            ),
        )
    ]


def body_problems(text: str, body: Mapping[str, Any], app: App) -> list[str]:
    """What Vespa would take in silence: inputs that are unknown, missing or too short.

    Args:
        text: the question.
        body: the request's.
        app: the application.
    """
    spec = app.manifest.spec
    found = []
    profile = app.manifest.profile(body["ranking.profile"])
    for key in body:
        if key.startswith("input.") and key not in (TOKENS_INPUT, SPEC_INPUT):
            found.append(f"unknown input {key}, which Vespa would leave aside")
    if profile.needs_tokens:
        ids = app.encoder.query_ids(text)
        cells = zero_pad(ids, spec.query_tokens)
        found += _tensor_problems(TOKENS_INPUT, body.get(TOKENS_INPUT), cells)
        found += _number_problems(SPEC_INPUT, body.get(SPEC_INPUT), spec)
    return [f"profile {profile.name}, {_shown(text)}: {line}" for line in found]


def _tensor_problems(name: str, value: Any, cells: Sequence[int]) -> Iterator[str]:
    values = value.get("values") if isinstance(value, Mapping) else value
    if not isinstance(values, list):
        yield f"{name} is missing; Vespa would rank with an empty text"
    elif len(values) != len(cells):
        yield (
            f"{name} has {len(values)} cells, expected {len(cells)}; Vespa fills up with 0 in "
            "silence"
        )
    elif values != cells:
        yield f"{name} is {values[:8]}..., expected the ids {cells[:8]}..."


def _number_problems(name: str, value: Any, spec: TokenSpec) -> Iterator[str]:
    if value != spec.fingerprint_number:
        yield f"{name} is {value!r}, expected {spec.fingerprint_number} ({spec.fingerprint})"


def _read_problems(operation: Mapping[str, Any], answer: Operation) -> Iterator[str]:
    """What Vespa's reader made of an operation, against what was meant."""
    name, fields = operation["put"], operation["fields"]
    if answer.error is not None:
        yield f"{name}: Vespa refuses it: {answer.error}"
        return
    missing = [field for field, value in fields.items() if value and field not in answer.fields]
    if missing:
        yield f"{name}: Vespa read no value of {', '.join(missing)}"
    for field, value in fields.items():
        if isinstance(value, Mapping) and value["values"] != answer.cells.get(field):
            read = answer.cells.get(field, [])
            yield f"{name}: Vespa read {field} as {read[:8]}..., sent was {value['values'][:8]}..."


def _bodies(app: App, texts: Iterable[str]) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """Requests of every text to every rank profile, and how many texts the client refuses."""
    bodies, refused = [], 0
    for text in texts:
        try:
            for profile in app.manifest.profiles:
                bodies.append((text, query_body(text, app, profile=profile.name)))
        except UsageError:
            refused += 1
    return bodies, refused


def _answer_problems(http: Http, text: str, body: Mapping[str, Any]) -> list[str]:
    """Errors of the container but the one that says that there is no content node."""
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
