"""The package check: Vespa's validators, and what they do not see."""

import re
from collections.abc import Sequence

from ranker.errors import MissingExtra, RankerError
from ranker.files import sha256
from ranker.package.application import Package
from ranker.verify.result import CheckResult, first_of
from ranker.verify.target import model_problems
from ranker.verify.timing import hopeless, seconds_per_pair, too_short
from ranker.verify.vespa.court import Court

__all__ = ["check_package"]

NATIVE_CHECKS = "vespa-verify-ranksetup-bin"

_EXPECTED = re.compile(r"Was expecting one of:.*?(?=At position:|\Z)", re.DOTALL)


def check_package(packages: Sequence[Package], *, court: Court, version: str) -> CheckResult:
    """Check a package with Vespa's validators, and its model files against the target release.

    Args:
        packages: the models of one application package; opening them compared their files with
            the hashes.
        court: Vespa's validators.
        version: the Vespa release that the package is meant for.
    """
    problems: list[str] = []
    warnings: list[str] = []
    missed: list[str] = []
    figures: dict[str, float] = {}
    for package in packages:
        _look_at_model(package, version, problems, missed)
        _look_at_time(package, problems, warnings, missed, figures)
        figures["model_bytes"] = package.model.stat().st_size
    _look_at_folders(packages[0], problems, warnings)
    if court.bench is not None:
        validation = court.bench.judge.validate(court.bench.app)
        places = (str(court.bench.app), str(packages[0].path))
        if validation.errors:
            errors = [_line(error, places) for error in validation.errors]
            problems.append("Vespa: " + ": ".join(errors))
        warnings += [_warning(text, places) for text in validation.warnings]
    return CheckResult(
        name="package",
        problems=first_of(problems),
        warnings=first_of(warnings),
        skipped=(*missed, *court.skipped("Vespa's own validators")),
        figures=figures,
    )


def _look_at_model(package: Package, version: str, problems: list[str], missed: list[str]) -> None:
    """The model file and what goes with it."""
    try:
        problems += model_problems(package.model, version)
    except MissingExtra as error:
        missed.append(f"opset, IR version and outside weights of the model: {error}")
    found = sha256(package.model)
    if found != package.manifest.model_sha256:
        problems.append(
            f"the manifest names the model {package.manifest.model_sha256[:13]}, "
            f"{package.model.name} is {found[:13]}; package the bundle again"
        )
    try:
        package.encoder()
    except RankerError as error:
        problems.append(str(error))


def _look_at_time(
    package: Package,
    problems: list[str],
    warnings: list[str],
    missed: list[str],
    figures: dict[str, float],
) -> None:
    """Does reranking fit into the timeout?  Only what can never work is a problem."""
    try:
        seconds = seconds_per_pair(package)
    except MissingExtra as error:
        missed.append(f"loading and timing the model: {error}")
        return
    except RankerError as error:
        problems.append(str(error))
        return
    found = hopeless(package, seconds)
    problems += found
    if not found:
        warnings += too_short(package, seconds)
    most = max((p.rerank_count for p in package.manifest.profiles if p.needs_tokens), default=0)
    figures["ms_per_document"] = 1000 * seconds
    figures["rerank_s"] = seconds * most


def _look_at_folders(package: Package, problems: list[str], warnings: list[str]) -> None:
    if (package.path / "models").exists():
        line = (
            "the package has a folder models/: Vespa imports every model in it a second time; "
            "ranking models belong in files/"
        )
        # In somebody's own application the folder may well be meant.
        (problems if package.own else warnings).append(line)


def _warning(text: str, places: tuple[str, str]) -> str:
    if NATIVE_CHECKS in text:
        return "Vespa's checks in C++ (does every rank feature exist?) run only where Vespa runs"
    return f"Vespa: {_line(text, places)}"


def _line(text: str, places: tuple[str, str]) -> str:
    """Vespa's words in one line, with the package's own folder in place of the working copy.

    The hundred words that its parser would have taken are left out.
    """
    return " ".join(_EXPECTED.sub("", text.replace(*places)).split())
