"""The package check: Vespa's validators, and what they do not see."""

import time

from ranker.encode import ModelInputs, pair_inputs
from ranker.errors import MissingExtra, RankerError
from ranker.files import sha256
from ranker.package import Package
from ranker.score import Scorer
from ranker.verify.court import Court
from ranker.verify.result import CheckResult, first_of
from ranker.verify.target import model_problems

__all__ = ["check_package"]

NATIVE_CHECKS = "vespa-verify-ranksetup-bin"


def check_package(package: Package, *, court: Court, version: str) -> CheckResult:
    """Check a package with Vespa's validators, and its model file against the target release.

    Args:
        package: the application package; opening it compared its files with their hashes.
        court: Vespa's validators.
        version: the Vespa release that the package is meant for.
    """
    problems, missed = _model_file(package, version)
    warnings: list[str] = []
    try:
        warnings += _too_slow(package)
    except MissingExtra as error:
        missed.append(f"loading and timing the model: {error}")
    except RankerError as error:
        problems.append(str(error))
    if court.bench is not None:
        validation = court.bench.judge.validate(court.bench.app)
        if validation.errors:
            problems.append("Vespa: " + ": ".join(_line(error) for error in validation.errors))
        warnings += [_warning(text) for text in validation.warnings]
    return CheckResult(
        name="package",
        problems=first_of(problems),
        warnings=first_of(warnings),
        skipped=(*missed, *court.skipped("Vespa's own validators")),
        figures={"model_bytes": package.model.stat().st_size},
    )


def _model_file(package: Package, version: str) -> tuple[list[str], list[str]]:
    """Problems of the model file and what goes with it, and what could not be looked at."""
    problems, missed = [], []
    try:
        problems += model_problems(package.model, version)
    except MissingExtra as error:
        missed.append(f"opset, IR version and outside weights of the model: {error}")
    found = sha256(package.model)
    if found != package.manifest.model_sha256:
        problems.append(
            f"manifest.json names the model {package.manifest.model_sha256[:13]}, "
            f"{package.model.name} is {found[:13]}; package the bundle again"
        )
    if (package.path / "models").exists():
        problems.append(
            "the package has a folder models/: Vespa imports every model in it a second time; "
            "ranking models belong in files/"
        )
    try:
        package.encoder()
    except RankerError as error:
        problems.append(str(error))
    return problems, missed


def _too_slow(package: Package) -> list[str]:
    """A warning where reranking may take longer than a query may.

    Raises:
        SpecMismatch: the model was exported under another contract.
        ArtifactError: ONNX Runtime does not load it.
    """
    spec, manifest = package.spec, package.manifest
    scorer = Scorer(package.model, spec, threads=1)
    try:
        ids = [max(spec.cls_id, spec.sep_id, spec.pad_id, 1)]
        longest = pair_inputs(spec, [ids * spec.query_tokens], [ids * spec.document_tokens])
        seconds = min(_timed(scorer, longest) for _ in range(3))
    finally:
        scorer.close()
    count = max((p.rerank_count for p in manifest.profiles if p.needs_tokens), default=0)
    if seconds * count <= manifest.timeout_s:
        return []
    return [
        f"reranking {count} long documents takes {seconds * count:.1f} s on one thread of this "
        f"machine, the timeout is {manifest.timeout_s:g} s; rerank fewer or take a smaller model"
    ]


def _timed(scorer: Scorer, inputs: ModelInputs) -> float:
    start = time.perf_counter()
    scorer.run(inputs)
    return time.perf_counter() - start


def _warning(text: str) -> str:
    if NATIVE_CHECKS in text:
        return "Vespa's checks in C++ (does every rank feature exist?) run only where Vespa runs"
    return f"Vespa: {_line(text)}"


def _line(text: str) -> str:
    return " ".join(text.split())
