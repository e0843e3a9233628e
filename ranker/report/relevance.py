"""The page's words for relevance: nDCG@10 of the profiles, blend, calibration, ship gate."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ranker.artifacts.bundle import Bundle
from ranker.artifacts.calibration import Calibration, calibration_of, why_uncalibrated
from ranker.metrics.gate import SHIPPED
from ranker.metrics.plots import reliability
from ranker.report.numbers import number, queries, signed

__all__ = [
    "CHOSEN",
    "bundle_facts",
    "bundle_summary",
    "calibration",
    "choice",
    "facts",
    "headline",
    "held_out",
]

CHOSEN = "the blend's weight, the best step and the recommended profile"

_MEASURE = "nDCG@10"
_PROFILES = ("bm25", "cross", "blend")
_GATE = {
    "passed": "passed: better than bm25 in cross-validation",
    "not_better": "not better than bm25 in cross-validation",
    "unknown": "unknown: there was no cross-validation",
}


def headline(training: Mapping[str, Any]) -> str:
    """Say what training recommends, by the queries that it held out."""
    held, name = training["held_out"], training["recommended_profile"]
    better, where = "better", f"{queries(held['queries'])} held out"
    if training.get("cv"):
        better = "reliably better"
        where = f"{queries(held['queries'])}, each ranked by a model that did not see it"
    if name == "bm25":
        return f"Training recommends bm25: no trained profile was {better} on {where}"
    gain = f"{signed(held[name] - held['bm25'])} {_MEASURE}"
    whole = where if training.get("cv") else f"{where} of training"
    return f"Training recommends {name}: {gain} over bm25 on {whole}"


def held_out(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return nDCG@10 of each profile, and how the blend was kept apart from these queries."""
    held = training["held_out"]
    note = "Each query is blended with the weight that the other queries choose."
    if training.get("cv"):
        note = "Each query is ranked by a model, and blended with a weight, trained without it."
    return {
        "measure": _MEASURE,
        "queries": held["queries"],
        "of": "profile",
        "rows": [
            {
                "name": name,
                "value": number(held[name]),
                "recommended": name == training["recommended_profile"],
            }
            for name in _PROFILES
            if name in held
        ],
        "note": note,
    }


def facts(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return which stage ships, the blend and the calibration."""
    stage = training.get("gate", {}).get("stage")
    return [
        *([("Ships", SHIPPED[stage])] if stage else []),
        ("Blend", f"bm25 + {training['blend_weight']:g} · logit, weight from these queries"),
        ("Probability", _probability(calibration_of(training), why_uncalibrated(training))),
    ]


def calibration(training: Mapping[str, Any], *, ident: str) -> dict[str, Any] | None:
    """Return how good the probabilities are, as a picture and a table of thresholds."""
    figures = training.get("calibration")
    if figures is None:
        return None
    others = "the other folds" if training.get("cv") else "other queries"
    return {
        "plot": reliability(figures["reliability"], brier=figures["brier"], ident=ident),
        "note": (
            f"Each pair has the probability of a calibration on {others}. Brier score "
            f"{figures['brier']:.4f}, of the base rate alone {figures['base_rate_brier']:.4f}; log "
            f"loss {figures['log_loss']:.4f} and {figures['base_rate_log_loss']:.4f}. "
            f"{figures['relevant']:,} of {figures['pairs']:,} reranked documents are judged "
            "relevant; unjudged ones count as not relevant."
        ),
        "thresholds": [
            {
                "probability": f"{row['probability']:g}",
                "precision": "–" if row["precision"] is None else number(row["precision"]),
                "pairs": f"{row['pairs']:,}",
                "queries": f"{100 * row['queries']:.0f} %",
            }
            for row in figures["thresholds"]
        ],
    }


def choice(training: Mapping[str, Any], *, on_this_page: bool) -> str:
    """Say on which queries the recommended profile was chosen, with their figures."""
    if "origin" in training:
        return "since it is an existing model for which no blend was learned"
    held = training["held_out"]
    means = ", ".join(f"{name} {number(held[name])}" for name in _PROFILES if name in held)
    where = f"on {queries(held['queries'])} held out of training"
    if training.get("cv"):
        where = f"by cross-validation on {queries(held['queries'])}"
    if not on_this_page:
        where += ", not on those of this page"
    return f"chosen {where} ({_MEASURE} there: {means})"


def bundle_facts(bundle: Bundle) -> list[tuple[str, str]]:
    """Return blend, calibration, recommended profile and the verdict of the ship gate."""
    return [
        ("Blend", f"bm25 + {bundle.blend_weight:g} · logit"),
        ("Probability", _probability(bundle.calibration, bundle.uncalibrated)),
        ("Recommended", bundle.recommended_profile),
        ("Ship gate", _GATE[bundle.verdict] + "; exported with --force" * bundle.forced),
    ]


def bundle_summary(bundle: Bundle) -> dict[str, Any]:
    """Return the blend's weight, the calibration and the recommended profile."""
    return {
        "blend_weight": bundle.blend_weight,
        "calibration": bundle.calibration and asdict(bundle.calibration),
        "uncalibrated": bundle.uncalibrated,
        "recommended_profile": bundle.recommended_profile,
    }


def _probability(calibration: Calibration | None, reason: str | None) -> str:
    """Write the probability of relevance as a formula, or why there is none."""
    if calibration is None:
        return f"uncalibrated: {reason}"
    return calibration.expression.replace(" * ", " · ")
