"""The package check: Vespa's validators, and what they do not check: model files and timeouts.

A content node runs the model for one document after the other and checks the time only before
and after, so a query whose timeout is too short gets no answer at all.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from ranker.contract.encode import pair_inputs
from ranker.errors import MissingExtra, RankerError
from ranker.export.score import Scorer
from ranker.files import sha256
from ranker.package.application import Package
from ranker.verify.result import CheckResult, first_of
from ranker.verify.target import model_problems
from ranker.verify.vespa.process import OpenPackage

__all__ = ["check_package", "hopeless", "timeouts", "too_short"]

NATIVE_CHECKS = "vespa-verify-ranksetup-bin"

VESPA_DEFAULT_S = 0.5
"""Vespa's timeout of a query if neither the request nor the query profile sets one."""

QUERY_PROFILE = "search/query-profiles/default.xml"
MEASUREMENTS = 5

_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "ks": 1e3}

_EXPECTED = re.compile(r"Was expecting one of:.*?(?=At position:|\Z)", re.DOTALL)


@dataclass
class _Findings:
    """The parts of the result, filled on the way."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


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
    findings = _Findings()
    for package in packages:
        _check_model(package, version, findings)
        _check_time(package, findings)
        findings.figures["model_bytes"] = package.model.stat().st_size
    if (packages[0].path / "models").exists():
        # In an application that ranker did not make, the folder may well be intended.
        (findings.problems if packages[0].own else findings.warnings).append(
            "the package has a folder models/: Vespa imports every model in it a second time; "
            "ranking models belong in files/"
        )
    if vespa is not None:
        validation = vespa.process.validate(vespa.copy)
        places = (str(vespa.copy), str(packages[0].path))
        if validation.errors:
            errors = [_line(error, places) for error in validation.errors]
            findings.problems.append("Vespa: " + ": ".join(errors))
        findings.warnings += [_warning(text, places) for text in validation.warnings]
    return CheckResult(
        name="package",
        problems=first_of(findings.problems),
        warnings=first_of(findings.warnings),
        skipped=tuple(findings.skipped),
        figures=findings.figures,
    )


def _check_model(package: Package, version: str, findings: _Findings) -> None:
    try:
        findings.problems += model_problems(package.model, version)
    except MissingExtra as error:
        findings.skipped.append(f"opset, IR version and external weights of the model: {error}")
    digest = sha256(package.model)
    if digest != package.manifest.model_sha256:
        findings.problems.append(
            f"the manifest names the model {package.manifest.model_sha256[:13]}, "
            f"{package.model.name} is {digest[:13]}; package the bundle again"
        )
    try:
        package.encoder()
    except RankerError as error:
        findings.problems.append(str(error))


def _check_time(package: Package, findings: _Findings) -> None:
    """Compare the time of reranking with the timeouts; only what can never work is a problem."""
    try:
        seconds = seconds_per_pair(package)
    except MissingExtra as error:
        findings.skipped.append(f"loading and timing the model: {error}")
        return
    except RankerError as error:
        findings.problems.append(str(error))
        return
    impossible = hopeless(package, seconds)
    findings.problems += impossible
    if not impossible:
        findings.warnings += too_short(package, seconds)
    most = max((p.rerank_count for p in package.manifest.profiles if p.needs_tokens), default=0)
    findings.figures |= {"ms_per_document": 1000 * seconds, "rerank_s": seconds * most}


def _warning(text: str, places: tuple[str, str]) -> str:
    if NATIVE_CHECKS in text:
        return "Vespa's checks in C++ (does every rank feature exist?) run only where Vespa runs"
    return f"Vespa: {_line(text, places)}"


def _line(text: str, places: tuple[str, str]) -> str:
    """Write Vespa's message in one line, with the package's folder in place of its copy.

    The list of the hundred tokens that its parser expected is left out.
    """
    return " ".join(_EXPECTED.sub("", text.replace(*places)).split())


@dataclass(frozen=True)
class Timeout:
    """Seconds that a query may take, and where they are set."""

    seconds: float
    source: str


def timeouts(package: Package) -> list[Timeout]:
    """Return the timeout that our own client sends, and that of requests without one."""
    return [
        Timeout(package.manifest.timeout_s, "sent by `ranker query`"),
        _of_query_profile(package),
    ]


def seconds_per_pair(package: Package) -> float:
    """Measure the seconds for one document of full length on one thread of this machine.

    Raises:
        SpecMismatch: the model was exported under another contract.
        ArtifactError: ONNX Runtime does not load it.
        MissingExtra: ONNX Runtime is not installed.
    """
    spec = package.spec
    scorer = Scorer(package.model, spec, threads=1)
    try:
        ids = [max(spec.cls_id, spec.sep_id, spec.pad_id, 1)]
        longest = pair_inputs(spec, [ids * spec.query_tokens], [ids * spec.document_tokens])
        times = []
        for _ in range(MEASUREMENTS):
            start = time.perf_counter()
            scorer.run(longest)
            times.append(time.perf_counter() - start)
        return min(times)  # other processes can only make it slower
    finally:
        scorer.close()


def too_short(package: Package, seconds: float) -> list[str]:
    """Write a line for every timeout that reranking may exceed.

    Args:
        package: its rank profiles say how many documents are reranked.
        seconds: for one document.
    """
    profiles = [profile for profile in package.manifest.profiles if profile.needs_tokens]
    lines = []
    for timeout in timeouts(package):
        slow = [p for p in profiles if seconds * p.rerank_count > timeout.seconds]
        if slow:
            most = max(profile.rerank_count for profile in slow)
            lines.append(
                f"rank profile {', '.join(p.name for p in slow)}: reranking {most} documents of "
                f"full length takes {seconds * most:.3g} s on one thread of this machine "
                f"({1000 * seconds:.3g} ms each), the timeout is {timeout.seconds:g} s "
                f"({timeout.source}); rerank fewer, allow more time or take a smaller model"
            )
    return lines


def hopeless(package: Package, seconds: float) -> list[str]:
    """Write a line for every timeout that even a single document exceeds."""
    return [
        f"one document of full length takes {seconds:.3g} s on one thread of this machine, longer "
        f"than the timeout of {timeout.seconds:g} s ({timeout.source}): no query with the model "
        "can succeed; allow more time or take a smaller model"
        for timeout in timeouts(package)
        if seconds > timeout.seconds
    ]


def _of_query_profile(package: Package) -> Timeout:
    try:
        elements = ElementTree.parse(package.path / QUERY_PROFILE).getroot().iter("field")
        texts = [element.text or "" for element in elements if element.get("name") == "timeout"]
    except (OSError, ElementTree.ParseError):  # no file, or one that Vespa's validators reject
        texts = []
    timeout = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|ms|ks|)\s*", texts[-1]) if texts else None
    if timeout is None:
        source = f"Vespa's own, as {QUERY_PROFILE} sets none, for requests without one"
        return Timeout(VESPA_DEFAULT_S, source)
    return Timeout(float(timeout[1]) * _UNITS[timeout[2]], f"of {QUERY_PROFILE}")
