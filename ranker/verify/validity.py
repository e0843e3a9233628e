"""The package check: Vespa's validators, and what they do not check."""

import re
from collections.abc import Sequence

from ranker.errors import MissingExtra, RankerError
from ranker.files import sha256
from ranker.package.application import Package
from ranker.verify.result import CheckResult, first_of
from ranker.verify.target import model_problems
from ranker.verify.timing import hopeless, seconds_per_pair, too_short
from ranker.verify.vespa.process import OpenPackage

__all__ = ["check_package"]

NATIVE_CHECKS = "vespa-verify-ranksetup-bin"

_EXPECTED = re.compile(r"Was expecting one of:.*?(?=At position:|\Z)", re.DOTALL)


def check_package(
    packages: Sequence[Package], *, vespa: OpenPackage | None, version: str
) -> CheckResult:
    """Check a package with Vespa's validators, and its model files against the target release.

    Args:
        packages: the models of one application package; opening them compared their files with
            the hashes.
        vespa: Vespa's own code with the package; None where it cannot run.
        version: the Vespa release that the package is meant for.
    """
    problems: list[str] = []
    warnings: list[str] = []
    missed: list[str] = []
    figures: dict[str, float] = {}
    for package in packages:
        _check_model(package, version, problems, missed)
        _check_time(package, problems, warnings, missed, figures)
        figures["model_bytes"] = package.model.stat().st_size
    if (packages[0].path / "models").exists():
        # In an application that ranker did not make, the folder may well be intended.
        (problems if packages[0].own else warnings).append(
            "the package has a folder models/: Vespa imports every model in it a second time; "
            "ranking models belong in files/"
        )
    if vespa is not None:
        validation = vespa.process.validate(vespa.copy)
        places = (str(vespa.copy), str(packages[0].path))
        if validation.errors:
            errors = [_line(error, places) for error in validation.errors]
            problems.append("Vespa: " + ": ".join(errors))
        warnings += [_warning(text, places) for text in validation.warnings]
    return CheckResult(
        name="package",
        problems=first_of(problems),
        warnings=first_of(warnings),
        skipped=tuple(missed),
        figures=figures,
    )


def _check_model(package: Package, version: str, problems: list[str], missed: list[str]) -> None:
    try:
        problems += model_problems(package.model, version)
    except MissingExtra as error:
        missed.append(f"opset, IR version and external weights of the model: {error}")
    digest = sha256(package.model)
    if digest != package.manifest.model_sha256:
        problems.append(
            f"the manifest names the model {package.manifest.model_sha256[:13]}, "
            f"{package.model.name} is {digest[:13]}; package the bundle again"
        )
    try:
        package.encoder()
    except RankerError as error:
        problems.append(str(error))


def _check_time(
    package: Package,
    problems: list[str],
    warnings: list[str],
    missed: list[str],
    figures: dict[str, float],
) -> None:
    """Compare the time of reranking with the timeouts; only what can never work is a problem."""
    try:
        seconds = seconds_per_pair(package)
    except MissingExtra as error:
        missed.append(f"loading and timing the model: {error}")
        return
    except RankerError as error:
        problems.append(str(error))
        return
    impossible = hopeless(package, seconds)
    problems += impossible
    if not impossible:
        warnings += too_short(package, seconds)
    most = max((p.rerank_count for p in package.manifest.profiles if p.needs_tokens), default=0)
    figures["ms_per_document"] = 1000 * seconds
    figures["rerank_s"] = seconds * most


def _warning(text: str, places: tuple[str, str]) -> str:
    if NATIVE_CHECKS in text:
        return "Vespa's checks in C++ (does every rank feature exist?) run only where Vespa runs"
    return f"Vespa: {_line(text, places)}"


def _line(text: str, places: tuple[str, str]) -> str:
    """Write Vespa's message in one line, with the package's folder in place of its copy.

    The list of the hundred tokens that its parser expected is left out.
    """
    return " ".join(_EXPECTED.sub("", text.replace(*places)).split())
