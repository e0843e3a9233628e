"""The four checks in order: package, parity, feed, queries."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ranker.artifacts.bundle import Checkpoint
from ranker.artifacts.installation import RECORDS
from ranker.client.search import App
from ranker.dataset import load
from ranker.errors import ArtifactError, UsageError, VerifyError
from ranker.package.application import Package
from ranker.verify.parity.check import check_parity
from ranker.verify.parity.pairs import TextPair, judged_pairs, nasty_pairs, special_tokens
from ranker.verify.provenance import named_checkpoint
from ranker.verify.result import CheckResult
from ranker.verify.traffic import check_feed, check_queries
from ranker.verify.validity import check_package
from ranker.verify.vespa.build import VESPA_VERSION, is_built
from ranker.verify.vespa.process import container, open_package

__all__ = ["CHECKS", "Progress", "verify"]

CHECKS = ("package", "parity", "feed", "queries")

VESPA_PARTS = {
    "package": "Vespa's own validators",
    "parity": "ids and scores in Vespa's evaluator",
    "feed": "the operations in Vespa's own feed reader",
    "queries": "the requests in Vespa's real container",
}
"""The part of each check that is skipped where Vespa's own code cannot run."""

MOST_QUERIES = 60
"""Most queries sent to the container, each with every rank profile."""

Progress = Callable[[str, int, int], None]
"""Called with the name of a task, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class _Model:
    """One model of the application, and the pairs to compare it on.

    Attributes:
        package: the package, which has one model.
        pairs: query-document pairs.
        checkpoint: the checkpoint that the user names; None if it is to be searched for.
        label: suffix of the names of its checks if there are several models.
    """

    package: Package
    pairs: list[TextPair]
    checkpoint: Checkpoint | None
    label: str

    def app(self) -> App:
        """Open the application as a client of this model sees it."""
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

    The checks are those of `CHECKS`; after one that fails, the later ones are not started.  All
    but the first run once for each model in the application.

    Args:
        app: folder of the package, or the record of one model in it.
        data: judged data to take the texts from; by default, texts that are hard to tokenize.
        pairs: number of query-document pairs to compare.
        checkpoint: the checkpoint to compare with, or an existing cross-encoder (folder or
            Hugging Face id); by default the package's own, if it is found.
        strict: if True, what could not be checked is a problem.
        version: the Vespa release that the package is meant for.
        on_check: called with each result as it is made.
        on_progress: called during long tasks.

    Raises:
        UsageError: there is nothing to compare, or one checkpoint for several models.
        ArtifactError: `app` is not an application package, or `checkpoint` not a checkpoint.
        DataError: `data` cannot be read.
        VerifyError: the Vespa release is unknown, or Vespa's process exited.
    """
    if pairs < 1:
        raise UsageError(f"pairs must be 1 or more, got {pairs}")
    try:
        packages = Package.every(app)
    except ArtifactError as error:
        if not (app / Package.MARKER).is_file():  # not a package at all
            raise
        results = iter([CheckResult(name="package", problems=(str(error),))])
    else:
        results = _results(_models(packages, data, pairs, checkpoint), version, on_progress)
    checked: list[CheckResult] = []
    for result in results:
        missing = [f"not checked: {line}" for line in result.skipped] if strict else []
        checked.append(replace(result, problems=(*result.problems, *missing)))
        if on_check is not None:
            on_check(checked[-1])
        if checked[-1].problems:
            break
    return checked


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


def _pairs(package: Package, data: str | Path | None, count: int) -> list[TextPair]:
    if data is None:
        return nasty_pairs(count, specials=special_tokens(package.tokenizer_json))
    pairs = judged_pairs(load(data), count)
    if not pairs:
        raise UsageError(f"{data} has no queries with documents, so there is nothing to compare")
    return pairs


def _results(models: list[_Model], version: str, progress: Progress) -> Iterator[CheckResult]:
    packages = [model.package for model in models]
    path, reason = packages[0].path, ""

    def named(result: CheckResult, label: str = "") -> CheckResult:
        missing = (f"{VESPA_PARTS[result.name]}: {reason}",) if reason else ()
        return replace(result, name=result.name + label, skipped=(*result.skipped, *missing))

    def report(check: str, model: _Model) -> Callable[[int, int], None]:
        return lambda done, total: progress(check + model.label, done, total)

    with contextlib.ExitStack() as stack:
        starting = "start of Vespa's code" if is_built(version) else "first build of Vespa's code"
        progress(starting, 0, 1)
        try:
            vespa = stack.enter_context(open_package(path, version=version))
        except VerifyError as error:  # no JDK, or a build that failed; the rest can be checked
            vespa, reason = None, str(error)
        progress(starting, 1, 1)
        yield named(check_package(packages, vespa=vespa, version=version))
        for model in models:
            yield named(
                check_parity(
                    model.package,
                    model.pairs,
                    vespa=vespa,
                    checkpoint=model.checkpoint,
                    on_progress=report("parity", model),
                ),
                model.label,
            )
        for model in models:
            documents = list({pair.document.doc_id: pair.document for pair in model.pairs}.values())
            result = check_feed(
                model.app(), documents, vespa=vespa, on_progress=report("feed", model)
            )
            yield named(result, model.label)
    # The first process has ended: it and the container would hold two copies of Vespa in memory.
    with contextlib.ExitStack() as stack:
        try:
            url = None if reason else stack.enter_context(container(path, version=version))
        except VerifyError as error:
            yield CheckResult(name="queries", problems=(str(error),))
            return
        for model in models:
            texts = list(dict.fromkeys(pair.query for pair in model.pairs))[:MOST_QUERIES]
            result = check_queries(
                model.app(), texts, url=url, on_progress=report("queries", model)
            )
            yield named(result, model.label)
