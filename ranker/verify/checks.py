"""The four checks in order, with one judge: package, parity, feed, queries."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ranker.artifacts.bundle import Checkpoint
from ranker.artifacts.installation import RECORDS
from ranker.client.search import App
from ranker.dataset import load
from ranker.errors import ArtifactError, UsageError, VerifyError
from ranker.package.application import Package
from ranker.verify.origin import named_checkpoint
from ranker.verify.parity.pairs import TextPair, judged_pairs, nasty_pairs, special_tokens
from ranker.verify.parity.parity import check_parity
from ranker.verify.result import CheckResult
from ranker.verify.traffic import check_feed, check_queries
from ranker.verify.validity import check_package
from ranker.verify.vespa.build import VESPA_VERSION, is_built
from ranker.verify.vespa.court import Court, open_court
from ranker.verify.vespa.process import container

__all__ = ["CHECKS", "Progress", "verify"]

CHECKS = ("package", "parity", "feed", "queries")

MOST_QUESTIONS = 60
"""Questions put to the container, each to every rank profile."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class _Model:
    """One model of the application, and the pairs to compare it on.

    Attributes:
        package: the model.
        pairs: texts.
        checkpoint: what it was exported from, as the user says; None where it is looked for.
        label: added to the names of its checks, where there are several models.
    """

    package: Package
    pairs: list[TextPair]
    checkpoint: Checkpoint | None
    label: str

    def app(self) -> App:
        """The application as a client of this model sees it."""
        path = self.package.path
        if not self.package.own:
            path = path / RECORDS / f"{self.package.manifest.name}.json"
        return App.open(path)


def verify(
    app: Path,
    *,
    data: str | Path | None = None,
    pairs: int = 200,
    checkpoint: Path | None = None,
    strict: bool = False,
    version: str = VESPA_VERSION,
    on_check: Callable[[CheckResult], None] | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> list[CheckResult]:
    """Check an application package, with Vespa's own code where there is a JDK.

    The checks are those of `CHECKS`; where one fails, the later ones are not begun.  All but the
    first come once for each model in the application.

    Args:
        app: folder of the package, or the record of one model in it.
        data: judged data to take the texts from; texts made to be nasty by default.
        pairs: query-document pairs to compare.
        checkpoint: the checkpoint to compare with, or the cross-encoder of others (folder or
            Hugging Face id); by default the package's own, where it is found.
        strict: whether what could not be checked is a problem.
        version: the Vespa release that the package is meant for.
        on_check: called with each result when it is there.
        on_progress: called while something takes long.

    Raises:
        UsageError: there is nothing to compare, or one checkpoint for several models.
        ArtifactError: `app` is no application package, or `checkpoint` no checkpoint.
        DataError: `data` cannot be read.
        VerifyError: the Vespa release is unknown, or the judge stopped.
    """
    if pairs < 1:
        raise UsageError(f"pairs must be 1 or more, got {pairs}")
    try:
        packages = Package.every(app)
    except ArtifactError as error:
        if not (app / Package.MARKER).is_file():
            raise
        results = iter([CheckResult(name="package", problems=(str(error),))])
    else:
        results = _results(_models(packages, data, pairs, checkpoint), version, on_progress)
    told = []
    for result in results:
        told.append(_strict(result) if strict else result)
        if on_check is not None:
            on_check(told[-1])
        if told[-1].problems:
            break
    return told


def _models(
    packages: list[Package], data: str | Path | None, pairs: int, checkpoint: Path | None
) -> list[_Model]:
    if checkpoint is not None and len(packages) > 1:
        record = f"{packages[0].path}/{RECORDS}/{packages[0].manifest.name}.json"
        raise UsageError(
            f"a checkpoint belongs to one model, {packages[0].path} holds {len(packages)}; "
            f"name one by its record, as {record}"
        )
    named = None if checkpoint is None else named_checkpoint(checkpoint, packages[0])
    return [
        _Model(
            package,
            _pairs(package, data, pairs),
            named,
            label="" if len(packages) == 1 else f" ({package.manifest.name})",
        )
        for package in packages
    ]


def _results(models: list[_Model], version: str, progress: Progress) -> Iterator[CheckResult]:
    packages = [model.package for model in models]
    path = packages[0].path
    building = "start of the judge" if is_built(version) else "first build of Vespa's code"
    progress(building, 0, 1)
    with open_court(path, version=version) as court:
        progress(building, 1, 1)
        yield check_package(packages, court=court, version=version)
        for model in models:
            yield _parity(model, court, progress)
        for model in models:
            yield _feed(model, court, progress)
    try:
        with _front_door(path, court, version) as url:
            for model in models:
                yield _queries(model, court, url, progress)
    except VerifyError as error:
        yield CheckResult(name="queries", problems=(str(error),))


def _parity(model: _Model, court: Court, progress: Progress) -> CheckResult:
    name = f"parity{model.label}"
    result = check_parity(
        model.package,
        model.pairs,
        court=court,
        checkpoint=model.checkpoint,
        on_progress=lambda done: progress(name, done, len(model.pairs)),
    )
    return dataclasses.replace(result, name=name)


def _feed(model: _Model, court: Court, progress: Progress) -> CheckResult:
    name = f"feed{model.label}"
    documents = list({pair.document.doc_id: pair.document for pair in model.pairs}.values())
    try:
        result = check_feed(
            model.app(),
            documents,
            court=court,
            on_progress=lambda done: progress(name, done, len(documents)),
        )
    except VerifyError as error:  # Vespa refuses to read at all
        result = CheckResult(name=name, problems=(str(error),))
    return dataclasses.replace(result, name=name)


def _queries(model: _Model, court: Court, url: str | None, progress: Progress) -> CheckResult:
    name = f"queries{model.label}"
    questions = list(dict.fromkeys(pair.query for pair in model.pairs))[:MOST_QUESTIONS]
    result = check_queries(
        model.app(),
        questions,
        url=url,
        skipped=court.skipped("the requests in Vespa's real container"),
        on_progress=lambda done, total: progress(name, done, total),
    )
    return dataclasses.replace(result, name=name)


@contextlib.contextmanager
def _front_door(path: Path, court: Court, version: str) -> Iterator[str | None]:
    """The real container's URL; None where there is no JDK."""
    if court.bench is None:
        yield None
        return
    with container(path, version=version) as url:
        yield url


def _pairs(package: Package, data: str | Path | None, count: int) -> list[TextPair]:
    if data is not None:
        pairs = judged_pairs(load(data), count)
        if not pairs:
            raise UsageError(
                f"{data} has no queries with documents, so there is nothing to compare"
            )
        return pairs
    return nasty_pairs(count, specials=special_tokens(package.tokenizer_json))


def _strict(result: CheckResult) -> CheckResult:
    problems = (*result.problems, *(f"not checked: {line}" for line in result.skipped))
    return dataclasses.replace(result, problems=problems)
