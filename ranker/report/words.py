"""Figures in words: number formats, and the sentences that say what was found.  All pure.

A profile is said to be better only if the interval and the corrected test both say so.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from ranker.dataset.collection import same_collection
from ranker.evaluate import Evaluation

__all__ = [
    "SIGNIFICANT",
    "blend_figure",
    "cautions",
    "challenger",
    "formula",
    "headline",
    "interval",
    "milliseconds",
    "number",
    "p_value",
    "recommendation",
    "signed",
    "training_headline",
    "verdict",
]

SIGNIFICANT = 0.05
HOLES = 0.05
"""So much less judged than the baseline is worth a warning."""
_PROFILES = ("bm25", "cross", "blend")


def number(value: float) -> str:
    """A measure, with three decimals."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """A difference with its sign; a real minus, none for zero."""
    text = f"{abs(value):.3f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def interval(ends: tuple[float, float] | list[float]) -> str:
    """A confidence interval of a difference."""
    return f"{signed(ends[0])}…{signed(ends[1])}"


def p_value(value: float) -> str:
    """A p-value, no finer than ten thousand resamples can tell."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def milliseconds(value: float) -> str:
    """A latency with about three digits that matter."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def formula(profile: Mapping[str, Any]) -> str:
    """What a rank profile computes, from its entry in the manifest."""
    parts = []
    if profile["bm25_weight"]:
        parts.append(_times(profile["bm25_weight"], "bm25"))
    if profile["logit_weight"]:
        parts.append(_times(profile["logit_weight"], "logit"))
    score = " + ".join(parts) or "as the application ranks by itself"
    if profile["phase"] == "first":
        return score
    return f"{score}, {profile['phase']} phase, best {profile['rerank_count']}"


def challenger(evaluation: Evaluation) -> dict[str, Any] | None:
    """The comparison of the best profile besides the baseline; of equals the first.

    One that is better beyond noise is before one with a larger difference that is not.
    """

    def rank(row: Mapping[str, Any]) -> tuple[bool, float]:
        return verdict(row) == "better", row["mean_difference"]

    return max(evaluation.comparisons, key=rank, default=None)


def verdict(comparison: Mapping[str, Any]) -> str:
    """What a comparison says: better, worse, not sure, noise."""
    low, high = comparison["interval"]
    if low <= 0 <= high:
        return "noise"
    if comparison["p_holm"] >= SIGNIFICANT:
        return "not sure"
    return "better" if low > 0 else "worse"


def headline(evaluation: Evaluation) -> str:
    """Which profile won, and how sure that is, in one sentence."""
    best, base = challenger(evaluation), evaluation.baseline
    measure, queries = evaluation.measures[0], _queries(evaluation.figures["dataset"]["queries"])
    if best is None:
        value = number(evaluation.mean(base, measure))
        return f"{base} reaches {measure} {value} on {queries}; no other profile was measured"
    if best["wins"] == best["losses"] == 0:
        return f"No profile is better than {base}: {best['profile']} scores the same on {queries}"
    found = verdict(best)
    gain = f"{signed(best['mean_difference'])} {measure}"
    sure = f"95 % CI {interval(best['interval'])}, {queries}"
    if found == "better":
        return f"{best['profile']} beats {base} by {gain} ({sure})"
    how = "reliably better" if best["mean_difference"] > 0 else "better"
    return (
        f"No profile is {how} than {base} on these queries: {best['profile']} comes nearest "
        f"with {gain} ({sure}); {_why_not(best, found, len(evaluation.comparisons))}"
    )


def _why_not(best: Mapping[str, Any], found: str, comparisons: int) -> str:
    if found == "not sure":
        return f"corrected for {comparisons} comparisons that is not sure (p {best['p_holm']:.3f})"
    return "that is worse beyond noise" if found == "worse" else "the difference is within noise"


def training_headline(training: Mapping[str, Any]) -> str:
    """What training found on the queries it held out."""
    held = training["held_out"]
    name = training["recommended_profile"]
    queries = _queries(held["queries"])
    if training.get("cv"):
        queries += ", each ranked by a model that did not see it"
        if name == "bm25":
            return f"Training recommends bm25: nothing it made was reliably better on {queries}"
        gain = signed(held[name] - held["bm25"])
        return f"Training recommends {name}: {gain} nDCG@10 over bm25 on {queries}"
    if name == "bm25":
        return f"Training recommends bm25: nothing it made was better on {queries} held out"
    gain = signed(held[name] - held["bm25"])
    return f"Training recommends {name}: {gain} nDCG@10 over bm25 on {queries} held out of training"


def blend_figure(training: Mapping[str, Any]) -> str:
    """How it was seen to that the blend's figure is none of the queries its weight comes from."""
    if training.get("cv"):
        return "Each query is ranked by a model, and blended with a weight, that did not see it."
    return "Each query is blended with the weight that the others choose."


def recommendation(evaluation: Evaluation, training: Mapping[str, Any] | None) -> str:
    """Which profile the package recommends, where that was chosen, and whether it holds here."""
    name = evaluation.figures["recommended_profile"]
    if training is None:
        chosen = "chosen on what is not known here: name the folder of the checkpoint, too"
    elif "origin" in training:
        chosen = "since others trained the model and nobody has learned a blend for it"
    else:
        held = training["held_out"]
        means = ", ".join(f"{p} {number(held[p])}" for p in _PROFILES if p in held)
        where = f"on {_queries(held['queries'])} held out of training"
        if training.get("cv"):
            where = f"by cross-validation on {_queries(held['queries'])}"
        if not _known(evaluation, training):
            where += ", not on the ones of this page"
        chosen = f"chosen {where} (nDCG@10 there: {means})"
    return f"The application recommends {name}, {chosen}. {_holds(evaluation, name)}"


def cautions(evaluation: Evaluation, training: Mapping[str, Any] | None) -> list[str]:
    """What a reader must know before believing the figures."""
    return [
        *_leaks(evaluation, training),
        *_holes(evaluation),
        *_returned(evaluation),
        *_too_shallow(evaluation),
    ]


def _holds(evaluation: Evaluation, name: str) -> str:
    measure = evaluation.measures[0]
    if name not in evaluation.profiles:
        return "It was not measured here."
    best = max(evaluation.profiles, key=lambda profile: evaluation.mean(profile, measure))
    if evaluation.mean(name, measure) >= evaluation.mean(best, measure):
        return f"It has the highest {measure} here, too."
    return f"Here {best} has a higher {measure}."


def _known(evaluation: Evaluation, training: Mapping[str, Any]) -> set[str]:
    """The measured queries that training has seen, to learn from or to choose by."""
    if not same_collection(evaluation.figures["dataset"], training.get("data", {})):
        return set()
    measured = set(evaluation.per_query(evaluation.baseline, evaluation.measures[0]))
    return measured & {
        *training.get("held_out_query_ids", ()),
        *training.get("learned_query_ids", ()),
    }


def _leaks(evaluation: Evaluation, training: Mapping[str, Any] | None) -> list[str]:
    if training is None or not (known := _known(evaluation, training)):
        return []
    if not known & set(training.get("learned_query_ids", ())):
        return [
            "These queries were held out of training, but the blend's weight, the best step and "
            "the recommended profile were chosen on them: the figures are somewhat too good."
        ]
    return [
        "Training saw the judgements of some of these queries: the figures of profiles that use "
        "the model are too good. Evaluate on a split that training did not see."
    ]


def _holes(evaluation: Evaluation) -> list[str]:
    names = [name for name in evaluation.measures if name.startswith("Judged")]
    if not names:
        return []
    judged = {profile: evaluation.mean(profile, names[0]) for profile in evaluation.profiles}
    base = judged[evaluation.baseline]
    lower = [f"{name} {number(share)}" for name, share in judged.items() if base - share >= HOLES]
    if not lower:
        return []
    return [
        f"Nobody judged many of the documents that come up: {names[0]} is {', '.join(lower)}, "
        f"but {evaluation.baseline} {number(base)}. What is not judged counts as not relevant, "
        "so the true figures of the former may be higher."
    ]


def _returned(evaluation: Evaluation) -> list[str]:
    sentences = []
    for profile in evaluation.profiles:
        figures = evaluation.figures["profiles"][profile]
        if empty := len(figures["queries_without_hits"]):
            sentences.append(f"{profile} found nothing for {_queries(empty)}; each counts 0.")
        if unknown := figures["unknown_hits"]:
            share = 100 * unknown / figures["hits"]
            sentences.append(
                f"{unknown} hits of {profile} ({share:.1f} %) are documents that the dataset does "
                "not have; they count as not relevant."
            )
    if left := evaluation.figures["dataset"].get("bad_rows_left_out"):
        sentences.append(f"{left:,} bad rows of the data were left out (--skip-bad).")
    if hopeless := evaluation.figures["dataset"]["queries_without_relevant"]:
        sentences.append(
            f"{_queries(hopeless)} without a single relevant document counted 0 for every profile."
        )
    return sentences


def _too_shallow(evaluation: Evaluation) -> list[str]:
    hits = evaluation.figures["arguments"]["hits"]
    cut = [
        name
        for name in evaluation.measures
        if (found := re.search(r"@(\d+)$", name)) and int(found[1]) > hits
    ]
    if not cut:
        return []
    return [f"{', '.join(cut)} looked at {hits} hits only, since no more were asked for."]


def _times(weight: float, name: str) -> str:
    return name if math.isclose(weight, 1) else f"{weight:g} · {name}"


def _queries(count: int) -> str:
    return "1 query" if count == 1 else f"{count} queries"
