"""Training for relevance: stopped by nDCG@10, blended, calibrated, judged by the ship gate."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.artifacts.calibration import calibration_of, why_uncalibrated
from ranker.dataset import Dataset
from ranker.metrics.blend import held_out_figures
from ranker.metrics.calibration import calibrate, parts_of
from ranker.metrics.gate import JUDGED, SHIPPED, unknown
from ranker.metrics.significance import is_better
from ranker.train.folds import cross_validation
from ranker.train.reranking import NDCG, Measure
from ranker.train.stages import Stages

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["MEASURE", "conclude", "cross_validate", "summary"]

MEASURE: Measure = NDCG

_PROFILES = ("bm25", "cross", "blend")
_RUNS = ("bm25", "base", "pretrained", "synthetic", "judged", "cross", "blend")


def conclude(stages: Stages, forward: "Module", held_out: Dataset) -> dict[str, Any]:
    """Learn the blend's weight and the calibration on held-out queries, with their figures."""
    queries = stages.queries(held_out)
    scores = stages.scores(queries, forward, "held-out queries: scores")
    figures = asdict(held_out_figures(queries.qrels, queries.bm25, scores))
    return {
        "blend_weight": figures.pop("blend_weight"),
        "recommended_profile": figures.pop("recommended_profile"),
        "held_out": figures,
        "gate": unknown(len(held_out.qrels)),
        **calibrate(
            queries.qrels,
            scores,
            parts_of(queries.qrels),
            min_grade=stages.arguments.min_grade,
        ),
    }


def cross_validate(
    stages: Stages, dataset: Dataset, directory: Path, *, workers: int
) -> cross_validation.CrossValidation:
    """Train and measure in folds, for the verdict of the ship gate."""
    return cross_validation.cross_validate(stages, dataset, directory, workers=workers)


def summary(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]], str]:
    """Return nDCG@10 on the held-out queries, or out of fold with the verdict."""
    held, gate = report["held_out"], report["gate"]
    below = _start(report) + (
        f"blend: bm25 + {report['blend_weight']:g} * logit; recommended profile: "
        f"{report['recommended_profile']}\n{_calibration(report)}"
    )
    if not report["cv"]:
        rows = [[name, f"{held[name]:.4f}"] for name in _PROFILES]
        return [f"held out ({held['queries']} queries)", "nDCG@10"], rows, below
    against = {row["profile"]: row for row in gate["comparisons"] if row["baseline"] == "bm25"}
    rows = []
    for name in (name for name in _RUNS if name in gate["runs"]):
        if name == gate["stage"] == JUDGED:
            continue  # it is the one that ships, so cross says the same
        row, cells = against.get(name), ["", "", ""]
        if row:
            low, high = row["interval"]
            gain = f"{row['mean_difference']:+.4f}"
            cells = [gain, f"[{low:+.4f}, {high:+.4f}]", f"{row['p_holm']:.4f}"]
        rows.append([name, f"{gate['runs'][name]['mean']:.4f}", *cells])
    headers = [f"out of fold ({gate['queries']} queries)", "nDCG@10", "- bm25", "95 %", "p (Holm)"]
    won = [
        row["profile"]
        for row in gate["comparisons"]
        if row["baseline"] == "bm25" and is_better(row)
    ]
    better = f"{' and '.join(won) or 'neither is'} reliably better than BM25"
    verdict = f"ships: {SHIPPED[gate['stage']]}\nship gate: {gate['verdict']} ({better})"
    return headers, rows, f"{verdict}\n{below}"


def _start(report: Mapping[str, Any]) -> str:
    """Say which model the judged stage started from, if there was a choice."""
    start = report["start"]
    if start is None:
        return ""
    figures = ", ".join(f"{name} {value:.4f}" for name, value in start["ndcg@10"].items())
    return f"learning from judged queries started from: {start['stage']} (nDCG@10 of {figures})\n"


def _calibration(report: Mapping[str, Any]) -> str:
    """Say what a logit means, and how well that holds on queries out of the fit."""
    known = calibration_of(report)
    if known is None:
        return f"uncalibrated: {why_uncalibrated(report)}"
    figures = report["calibration"]
    return (
        f"calibration: probability = {known.expression}, Brier score {figures['brier']:.4f} "
        f"(base rate alone: {figures['base_rate_brier']:.4f})"
    )
