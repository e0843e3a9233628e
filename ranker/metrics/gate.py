"""The ship gate: which stage of training to ship, and is it better than ranking without it?

Every run is out of fold: a query is ranked by a model, and blended with a weight, that never saw
it.  The stage that ships is the one with the best mean, so that no stage makes the product worse;
since it was chosen among several, the p-values are corrected for all of them.  The verdict is
`passed` when its blend or its cross-encoder is better than BM25, `not_better` when neither is, and
`unknown` without a cross-validation, as a handful of held-out queries cannot tell.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np

from ranker.metrics.measures import Qrels, Run, per_query
from ranker.metrics.significance import compare_all, intervals, is_better, queries_needed

__all__ = [
    "JUDGED",
    "MEASURE",
    "SHIPPED",
    "StageRuns",
    "Verdict",
    "caution",
    "decide",
    "shortfall",
    "unknown",
    "verdict_of",
]

MEASURE = "nDCG@10"
Verdict = Literal["passed", "not_better", "unknown"]

_CANDIDATES = ("blend", "cross")
"""Profiles that training adds; the first of equals is recommended."""
JUDGED = "judged"
"""The stage that learns from judged queries."""
SHIPPED = {
    "base": "the base model as it is, since no stage of training ranked better out of fold",
    "pretrained": "the pretrained model, since judged queries did not make it rank better",
    "synthetic": "the model after synthetic queries, since judged ones did not make it rank better",
    JUDGED: "the model trained on judged queries",
}
"""What ships, in words, by its stage."""


@dataclass(frozen=True)
class StageRuns:
    """The out-of-fold runs of a model as a stage of training leaves it.

    Attributes:
        stage: `base` (before training), `pretrained` (on the corpus), `synthetic` (on synthetic
            queries) or `judged`.
        cross: run of the cross-encoder alone.
        blend: run of its blend with BM25.
    """

    stage: str
    cross: Run
    blend: Run


def decide(qrels: Qrels, bm25: Run, stages: Sequence[StageRuns]) -> dict[str, Any]:
    """Return which stage ships and the verdict on it, with everything that they rest on.

    Args:
        qrels: the judged queries.
        bm25: the first phase.
        stages: the runs of each stage, in the order of training.

    Returns:
        `stage` (the one with the best mean of blend or cross-encoder, the earlier of equals),
        `verdict`, `recommended_profile`, `measure`, `queries`, `runs` (mean and 95 % interval by
        name: `bm25`, the cross-encoder of each stage, and `cross` and `blend` of the one that
        ships), `comparisons` (that cross and blend against BM25 and against the untrained base,
        corrected after Holm together with those of the other stages), `effects` (of each stage,
        corrected together), `queries_needed` (about how many would show the difference to BM25;
        None where it is not above 0).
    """

    def of(run: Run) -> dict[str, float]:
        return per_query(qrels, run, [MEASURE])[MEASURE]

    first = of(bm25)
    values = {one.stage: {"cross": of(one.cross), "blend": of(one.blend)} for one in stages}
    best = max(values, key=lambda stage: max(fmean(row.values()) for row in values[stage].values()))
    shown = {"bm25": first, **{stage: both["cross"] for stage, both in values.items()}}
    rows = _comparisons(first, values, best)
    better = [row["profile"] for row in rows if row["baseline"] == "bm25" and is_better(row)]
    figures = _with_intervals(shown | values[best])
    effects = list(itertools.pairwise(values)) if len(values) > 2 else []
    tests = len(_CANDIDATES) * len(stages)
    return {
        "stage": best,
        "verdict": "passed" if better else "not_better",
        "recommended_profile": max(better, key=lambda name: figures[name]["mean"], default="bm25"),
        "measure": MEASURE,
        "queries": len(qrels),
        "runs": figures,
        "comparisons": rows,
        "effects": compare_all(shown, effects, measure=MEASURE),
        "queries_needed": {
            name: queries_needed(first, values[best][name], tests=tests) for name in _CANDIDATES
        },
    }


def _comparisons(
    bm25: Mapping[str, float], values: Mapping[str, Mapping[str, Mapping[str, float]]], best: str
) -> list[dict[str, Any]]:
    """Return the comparisons of the stage that ships, corrected together with all the others."""
    untrained = next(iter(values))
    table = {f"{stage} {name}": row for stage in values for name, row in values[stage].items()}
    pairs = [("bm25", f"{stage} {name}") for stage in values for name in _CANDIDATES]
    if best != untrained:
        pairs += [(f"{untrained} cross", f"{best} {name}") for name in _CANDIDATES]
    return [
        row
        | {
            "baseline": row["baseline"].removesuffix(" cross"),
            "profile": row["profile"].removeprefix(f"{best} "),
        }
        for row in compare_all({"bm25": bm25, **table}, pairs, measure=MEASURE)
        if row["profile"].startswith(f"{best} ")
    ]


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
