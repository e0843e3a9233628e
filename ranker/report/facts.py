"""What a figure rests on: collection, contract, model, versions, methods, commands."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranker.artifacts.bundle import Bundle
from ranker.contract.spec import TokenSpec
from ranker.evaluate import Evaluation
from ranker.metrics.plots import training_curves
from ranker.report import words
from ranker.report.folders import model_sha256

__all__ = ["bundle_view", "evaluation_facts", "training_view"]

View = dict[str, Any]
Fact = tuple[str, str]

_GATE = {
    "passed": "passed: better than bm25 in cross-validation",
    "not_better": "not better than bm25 in cross-validation",
    "unknown": "unknown: there was no cross-validation",
}


def evaluation_facts(evaluation: Evaluation) -> list[View]:
    """Groups of facts: each has a title, and terms with their descriptions."""
    figures = evaluation.figures
    return [
        {"title": "Collection", "facts": _collection(figures["dataset"])},
        {"title": "Method", "facts": _method(evaluation)},
        {"title": "Application", "facts": _application(figures)},
        {"title": "Commands", "facts": _commands(evaluation)},
    ]


def training_view(folder: Path, training: Mapping[str, Any], *, ident: str) -> View:
    """What the page shows of a training run."""
    held, data = training["held_out"], training.get("data", {})
    arguments = training["arguments"]
    profiles = [name for name in ("bm25", "cross", "blend") if name in held]
    return {
        "ident": ident,
        "title": f"Training of {Path(str(arguments.get('base', folder.name))).name}",
        "headline": words.training_headline(training),
        "plot": training_curves({"": training}, ident=f"{ident}-curves"),
        "held_out": [
            {
                "name": name,
                "value": words.number(held[name]),
                "recommended": name == training["recommended_profile"],
            }
            for name in profiles
        ],
        "queries": held["queries"],
        "blended": words.blend_figure(training),
        "facts": [
            ("Blend", f"bm25 + {training['blend_weight']:g} · logit, weight from these queries"),
            ("Data", _training_data(data)),
            ("Groups drawn from", _sources(training.get("documents_by_source", {}))),
            *_helpers(training),
            ("Took", f"{training['seconds'] / 60:.1f} min" if "seconds" in training else "–"),
            ("Folder", str(folder)),
        ],
        "arguments": [(key, str(value)) for key, value in sorted(arguments.items())],
    }


def bundle_view(bundle: Bundle, parity: Mapping[str, Any], *, ident: str) -> View:
    """What the page shows of a bundle: is the exported model the trained one?"""
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
            ("Blend", f"bm25 + {bundle.blend_weight:g} · logit"),
            ("Recommended", bundle.recommended_profile),
            ("Ship gate", _GATE[bundle.verdict] + "; exported with --force" * bundle.forced),
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
        ("Depth", f"the best {arguments['hits']} hits of every query were asked for and measured"),
        (
            "Intervals",
            f"{100 * how['level']:g} % percentile bootstrap over queries, "
            f"{how['resamples']:,} resamples, seed {how['seed']}; the same resamples everywhere",
        ),
        (
            "Test",
            "two-sided paired randomisation test over queries (signs of the differences), "
            f"{evaluation.measures[0]} only, corrected after Holm for {tests} comparisons"
            if tests
            else "none: there is one profile only",
        ),
        (
            "Judged@10",
            "share of the first ten hits that somebody judged. A hole, a document that nobody "
            "judged, counts as not relevant, so profiles that find other documents than the "
            "judges saw are measured too low",
        ),
        (
            "Latency",
            "seen by the client, profiles in turns on each query, one search each to warm up, "
            + ("one query at a time" if at_once == 1 else f"{at_once} queries at once"),
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
    """The teacher and the synthetic queries, where there were any."""
    facts = []
    if teacher := training.get("teacher"):
        facts.append(("Teacher", f"{teacher['name']}, loss {training['arguments']['loss']}"))
    if found := training.get("synthetic"):
        dropped = ", ".join(
            f"{count:,} {reason.replace('_', ' ')}" for reason, count in found["dropped"].items()
        )
        facts.append(
            (
                "Synthetic queries",
                f"{found['file']}: {found['kept']:,} of {found['rows']:,} rows kept, own document "
                f"in the best {found['rank']} of bm25; dropped: {dropped}",
            )
        )
    return facts


def _sources(stages: Mapping[str, Mapping[str, int]]) -> str:
    parts = [
        f"{stage}: " + ", ".join(f"{count:,} {source}" for source, count in counts.items())
        for stage, counts in stages.items()
    ]
    return "; ".join(parts) or "–"
