"""The four checks in order, with one judge: package, parity, feed, queries."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ranker.client import App
from ranker.dataset import load
from ranker.errors import ArtifactError, UsageError, VerifyError
from ranker.package import Package
from ranker.verify.build import VESPA_VERSION
from ranker.verify.court import Court, open_court
from ranker.verify.judge import container
from ranker.verify.pairs import TextPair, judged_pairs, nasty_pairs, special_tokens
from ranker.verify.parity import check_parity
from ranker.verify.result import CheckResult
from ranker.verify.traffic import check_feed, check_queries
from ranker.verify.validity import check_package

__all__ = ["verify"]

MOST_QUESTIONS = 60
"""Questions put to the container, each to every rank profile."""


def verify(
    app: Path,
    *,
    data: str | Path | None = None,
    pairs: int = 200,
    strict: bool = False,
    version: str = VESPA_VERSION,
    on_check: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Check an application package, with Vespa's own code where there is a JDK.

    The checks are `package`, `parity`, `feed` and `queries`; where the first one fails, the
    others are not begun.

    Args:
        app: folder of the package.
        data: judged data to take the texts from; texts made to be nasty by default.
        pairs: query-document pairs to compare.
        strict: whether what could not be checked is a problem.
        version: the Vespa release that the package is meant for.
        on_check: called with each result when it is there.

    Raises:
        UsageError: there is nothing to compare.
        ArtifactError: `app` is no application package.
        DataError: `data` cannot be read.
        VerifyError: the judge could not be built, or stopped.
    """
    if pairs < 1:
        raise UsageError(f"pairs must be 1 or more, got {pairs}")
    results = []
    for result in _results(app, data=data, pairs=pairs, version=version):
        results.append(_strict(result) if strict else result)
        if on_check is not None:
            on_check(results[-1])
    return results


def _results(
    app: Path, *, data: str | Path | None, pairs: int, version: str
) -> Iterator[CheckResult]:
    try:
        package = Package.open(app)
    except ArtifactError as error:
        if not (app / Package.MARKER).is_file():
            raise
        yield CheckResult(name="package", problems=(str(error),))
        return
    texts = _pairs(package, data, pairs)
    with open_court(app, version=version) as court:
        valid = check_package(package, court=court, version=version)
        yield valid
        if valid.problems:
            return
        client = App(package.manifest, package.encoder())
        yield _judged("parity", lambda: check_parity(package, texts, court=court))
        documents = list({pair.document.doc_id: pair.document for pair in texts}.values())
        yield _judged("feed", lambda: check_feed(client, documents, court=court))
    yield _judged("queries", lambda: _queries(app, client, texts, version, court))


def _queries(
    app: Path, client: App, texts: Sequence[TextPair], version: str, court: Court
) -> CheckResult:
    questions = list(dict.fromkeys(pair.query for pair in texts))[:MOST_QUESTIONS]
    if court.bench is None:
        skipped = court.skipped("the requests in Vespa's real container")
        return check_queries(client, questions, url=None, skipped=skipped)
    with container(app, version=version) as url:
        return check_queries(client, questions, url=url)


def _pairs(package: Package, data: str | Path | None, count: int) -> list[TextPair]:
    if data is not None:
        return judged_pairs(load(data), count)
    return nasty_pairs(count, specials=special_tokens(package.tokenizer_json))


def _judged(name: str, check: Callable[[], CheckResult]) -> CheckResult:
    """The check's result; where Vespa refuses to compute at all, that is its problem."""
    try:
        return check()
    except VerifyError as error:
        return CheckResult(name=name, problems=(str(error),))


def _strict(result: CheckResult) -> CheckResult:
    problems = (*result.problems, *(f"not checked: {line}" for line in result.skipped))
    return dataclasses.replace(result, problems=problems)
