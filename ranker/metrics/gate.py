"""The ship gate: is the model better than ranking without it, beyond chance?

Every run is out of fold: a query is ranked by a model, and blended with a weight, that never saw
it.  The verdict is `passed` when the blend or the cross-encoder is better than BM25, `not_better`
when neither is, and `unknown` without a cross-validation, as a handful of held-out queries cannot
tell.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ranker.metrics.measures import Qrels, Run, per_query
from ranker.metrics.significance import compare_all, intervals, is_better, queries_needed

__all__ = ["MEASURE", "Verdict", "caution", "decide", "shortfall", "unknown", "verdict_of"]

MEASURE = "nDCG@10"
Verdict = Literal["passed", "not_better", "unknown"]

_CANDIDATES = ("blend", "cross")
"""Profiles that training adds; the first of equals is recommended."""
_BASELINES = ("bm25", "base")
_STAGES = ("base", "pretrained", "synthetic", "cross")
"""Runs in the order of training; those in the middle are of optional stages."""


def decide(qrels: Qrels, runs: Mapping[str, Run]) -> dict[str, Any]:
    """Return the verdict on out-of-fold runs, with everything that it rests on.

    Args:
        qrels: the judged queries.
        runs: by name: `bm25`, `base` (before training), `cross`, `blend`, and `pretrained` (after
            the stage on the corpus) and `synthetic` (after that on synthetic queries) where there
            was such a stage.

    Returns:
        `verdict`, `recommended_profile`, `measure`, `queries`, `runs` (mean and 95 % interval by
        name), `comparisons` (blend and cross against BM25 and the base, corrected together after
        Holm), `effects` (of each stage, corrected together), `queries_needed` (about how many
        would show the difference to BM25; None where it is not above 0).
    """
    values = {name: per_query(qrels, run, [MEASURE])[MEASURE] for name, run in runs.items()}
    pairs = [(baseline, name) for baseline in _BASELINES for name in _CANDIDATES]
    rows = compare_all(values, pairs, measure=MEASURE)
    better = [row["profile"] for row in rows if row["baseline"] == "bm25" and is_better(row)]
    figures = _with_intervals(values)
    stages = [name for name in _STAGES if name in values]
    effects = list(itertools.pairwise(stages)) if len(stages) > 2 else []
    return {
        "verdict": "passed" if better else "not_better",
        "recommended_profile": max(better, key=lambda name: figures[name]["mean"], default="bm25"),
        "measure": MEASURE,
        "queries": len(qrels),
        "runs": figures,
        "comparisons": rows,
        "effects": compare_all(values, effects, measure=MEASURE),
        "queries_needed": {
            name: queries_needed(values["bm25"], values[name], tests=len(pairs))
            for name in _CANDIDATES
        },
    }


def unknown(queries: int) -> dict[str, Any]:
    """Return the verdict of a training without cross-validation, on this many held-out queries."""
    return {"verdict": "unknown", "measure": MEASURE, "queries": queries}


def verdict_of(training: Mapping[str, Any]) -> Verdict:
    """Return the verdict in a training report; unknown if the report is older than the gate."""
    verdict: Verdict = training.get("gate", {}).get("verdict", "unknown")
    return verdict


def shortfall(gate: Mapping[str, Any]) -> str:
    """Return by how much a model that is not better fell short, and what usually helps."""
    rows = [row for row in gate["comparisons"] if row["baseline"] == "bm25"]
    differences = "; ".join(
        f"{row['profile']} {row['mean_difference']:+.4f} "
        f"[{row['interval'][0]:+.4f}, {row['interval'][1]:+.4f}], p {row['p_holm']:.3f}"
        for row in rows
    )
    return (
        f"neither blend nor cross is reliably better than BM25 ({MEASURE} "
        f"{gate['runs']['bm25']['mean']:.4f}) on {gate['queries']} queries out of fold: "
        f"{differences} "
        f"(95 % intervals, p after Holm). What usually helps: {'; '.join(_advice(gate))}"
    )


def caution(training: Mapping[str, Any]) -> str:
    """Return what an unknown verdict means, and how to get one."""
    held = training.get("held_out", {})
    figures = ", ".join(
        f"{name} {held[name]:.4f}" for name in ("bm25", "cross", "blend") if name in held
    )
    flattering = (
        f": its {held['queries']} held-out queries ({MEASURE} {figures}) also chose the checkpoint "
        "and the blend's weight, so they flatter it"
        if figures
        else ""
    )
    return (
        "it is not known whether this model is better than BM25"
        f"{flattering}; `ranker train --cv 5` measures it on all judged queries"
    )


def _advice(gate: Mapping[str, Any]) -> list[str]:
    advice = [_more_queries(gate)]
    if "pretrained" not in gate["runs"]:
        advice.append("--pretrain, which learns from the corpus itself")
    return [*advice, "the blend instead of the cross-encoder alone"]


def _more_queries(gate: Mapping[str, Any]) -> str:
    """Return how many judged queries would show the better of the differences."""
    needed = {name: count for name, count in gate["queries_needed"].items() if count is not None}
    if not needed:
        return "more judgements to learn from (there is no gain yet that more queries would show)"
    name = min(needed, key=lambda name: needed[name])
    return (
        f"more judgements (if {name}'s difference is real, about {needed[name]:,} "
        f"queries would show it)"
    )


def _with_intervals(values: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    table = np.array([list(row.values()) for row in values.values()])
    return {
        name: {"mean": float(row.mean()), "interval": [float(low), float(high)]}
        for name, row, (low, high) in zip(values, table, intervals(table), strict=True)
    }
