"""Facts behind the figures: collection, contract, model, versions, method, commands."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranker.artifacts.bundle import Bundle
from ranker.contract.spec import TokenSpec
from ranker.evaluate import Evaluation
from ranker.metrics.plots import training_curves
from ranker.report.folders import model_sha256
from ranker.report.tasks import report_of, report_of_bundle

__all__ = ["bundle_view", "evaluation_facts", "training_view"]

View = dict[str, Any]
Fact = tuple[str, str]


def evaluation_facts(evaluation: Evaluation) -> list[View]:
    """Return groups of facts: each has a title, and terms with their descriptions."""
    figures = evaluation.figures
    return [
        {"title": "Collection", "facts": _collection(figures["dataset"])},
        {"title": "Method", "facts": _method(evaluation)},
        {"title": "Application", "facts": _application(figures)},
        {"title": "Commands", "facts": _commands(evaluation)},
    ]


def training_view(folder: Path, training: Mapping[str, Any], *, ident: str) -> View:
    """Return what the page shows of a training run."""
    arguments, part = training["arguments"], report_of(training)
    held_out = part.held_out(training)
    return {
        "ident": ident,
        "title": f"Training of {Path(str(arguments.get('base', folder.name))).name}",
        "headline": part.headline(training),
        "plot": training_curves(
            {"": training}, measure=held_out["measure"], ident=f"{ident}-curves"
        ),
        "held_out": held_out,
        "calibration": part.calibration(training, ident=f"{ident}-reliability"),
        "facts": [
            *part.facts(training),
            ("Data", _training_data(training.get("data", {}))),
            ("Groups sampled from", _sources(training.get("documents_by_source", {}))),
            *_helpers(training),
            ("Duration", f"{training['seconds'] / 60:.1f} min" if "seconds" in training else "–"),
            ("Folder", str(folder)),
        ],
        "arguments": [(key, str(value)) for key, value in sorted(arguments.items())],
    }


def bundle_view(bundle: Bundle, parity: Mapping[str, Any], *, ident: str) -> View:
    """Return what the page shows of a bundle: how close its model is to the trained one."""
    largest = parity["largest_difference"]
    worst = max(largest.values())
    return {
        "ident": ident,
        "title": f"Bundle {bundle.path.name}",
        "headline": (
            f"The exported model equals the trained one on {parity['pairs']} pairs: largest "
            f"difference of a logit {worst:.2g}, allowed {parity['tolerance']:g}"
        ),
        "differences": [(name.replace("_", " "), f"{v:.2g}") for name, v in largest.items()],
        "facts": [
            ("ONNX", f"opset {parity.get('opset', '–')}, IR {parity.get('ir_version', '–')}"),
            ("Last layer", str(parity.get("last_layer", "–"))),
            ("Model", f"sha256 {model_sha256(bundle)}"),
            ("Contract", _contract(bundle.spec)),
            *report_of_bundle(bundle).bundle_facts(bundle),
            ("Made by", f"ranker {bundle.about.get('ranker_version', '–')}"),
            ("Folder", str(bundle.path)),
        ],
    }


def _collection(data: Mapping[str, Any]) -> list[Fact]:
    grades = ", ".join(f"{n:,} × {g}" for g, n in data["judgements_by_grade"].items())
    return [
        ("Name", data["name"] + (f", split {data['split']}" if data["split"] else "")),
        ("Documents", f"{data['documents']:,}"),
        ("Judged queries", f"{data['queries']:,}"),
        ("Judgements", f"{data['judgements']:,} ({grades})"),
        ("Content", f"sha256 {data['sha256']}"),
    ]


def _method(evaluation: Evaluation) -> list[Fact]:
    figures = evaluation.figures
    how, tests = figures["intervals"], len(evaluation.comparisons)
    arguments = figures["arguments"]
    at_once = arguments["concurrency"]
    return [
        ("Gain", figures["gain"]),
        ("Depth", f"up to {arguments['hits']} hits of each query were requested and measured"),
        (
            "Intervals",
            f"{100 * how['level']:g} % percentile bootstrap over queries, "
            f"{how['resamples']:,} resamples, seed {how['seed']}; the same resamples everywhere",
        ),
        (
            "Test",
            "two-sided paired randomization test over queries (signs of the differences), "
            f"{evaluation.measures[0]} only, with Holm's correction for {tests} comparisons"
            if tests
            else "none: there is only one profile",
        ),
        (
            "Judged@10",
            "share of the first ten hits that are judged. A hole, that is an unjudged document, "
            "counts as not relevant, so profiles that find other documents than the annotators "
            "saw are underestimated",
        ),
        (
            "Latency",
            "measured by the client; the profiles take turns on each query, after one warm-up "
            "search each, "
            + ("one query at a time" if at_once == 1 else f"{at_once} queries at a time"),
        ),
    ]


def _application(figures: Mapping[str, Any]) -> list[Fact]:
    return [
        ("Endpoint", f"{figures['endpoint']}, application {figures['application']}"),
        ("Contract", _contract(TokenSpec.from_dict(figures["spec"]))),
        ("Model", f"sha256 {figures['model_sha256']}"),
        (
            "Versions",
            f"measured with ranker {figures['ranker_version']}, package made with "
            f"{figures['package_version']}",
        ),
        ("Date", figures["date"].replace("T", " ").replace("+00:00", " UTC")),
    ]


def _commands(evaluation: Evaluation) -> list[Fact]:
    figures = evaluation.figures
    arguments, data = figures["arguments"], figures["dataset"]
    command = ["ranker", "evaluate", data["name"], "--app", "APP", "--url", figures["endpoint"]]
    command += ["--split", data["split"]] if data["split"] else []
    for profile in arguments["profiles"]:
        command += ["--profile", profile]
    command += ["--hits", str(arguments["hits"])]
    for measure in arguments["measures"]:
        command += ["--measure", measure]
    command += ["--concurrency", str(arguments["concurrency"]), "--out", str(evaluation.path)]
    again = ["ranker", "report", str(evaluation.path), "--out", "report.html"]
    return [("Evaluate", shlex.join(command)), ("Report", shlex.join(again))]


def _contract(spec: TokenSpec) -> str:
    return (
        f"{spec.query_slots} + {spec.document_slots} = {spec.length} slots "
        f"({spec.query_tokens} query and {spec.document_tokens} document tokens), "
        f"fingerprint {spec.fingerprint}"
    )


def _training_data(data: Mapping[str, Any]) -> str:
    if not data:
        return "–"
    split = f", split {data['split']}" if data.get("split") else ""
    return (
        f"{data['name']}{split}: {data['queries']:,} queries, {data['judgements']:,} judgements, "
        f"{data['documents']:,} documents"
    )


def _helpers(training: Mapping[str, Any]) -> list[Fact]:
    """Return the teacher and the synthetic queries, if there were any."""
    facts = []
    if teacher := training.get("teacher"):
        facts.append(("Teacher", f"{teacher['name']}, loss {training['arguments']['loss']}"))
    if synthetic := training.get("synthetic"):
        dropped = ", ".join(
            f"{count:,} {reason.replace('_', ' ')}"
            for reason, count in synthetic["dropped"].items()
        )
        facts.append(
            (
                "Synthetic queries",
                f"{synthetic['file']}: {synthetic['kept']:,} of {synthetic['rows']:,} rows kept, "
                f"source document in the best {synthetic['rank']} of bm25; dropped: {dropped}",
            )
        )
    return facts


def _sources(stages: Mapping[str, Mapping[str, int]]) -> str:
    parts = [
        f"{stage}: " + ", ".join(f"{count:,} {source}" for source, count in counts.items())
        for stage, counts in stages.items()
    ]
    return "; ".join(parts) or "–"
