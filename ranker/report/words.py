"""Figures in words: the sentences that state the results.

A profile is called better only if both the interval and the corrected test show it.
"""

import re
from collections.abc import Mapping
from typing import Any

from ranker.artifacts.profile import Profile
from ranker.dataset.collection import same_collection
from ranker.evaluate import Evaluation
from ranker.metrics.significance import SIGNIFICANT
from ranker.report.numbers import interval, number, queries, signed
from ranker.report.tasks import report_of

__all__ = [
    "cautions",
    "challenger",
    "formula",
    "headline",
    "recommendation",
    "verdict",
]

HOLES = 0.05
"""Share of judged documents by which a profile must be below the baseline for a warning."""


def formula(profile: Mapping[str, Any]) -> str:
    """Write what a rank profile computes, from its entry in the manifest."""
    known = Profile(**profile)
    score = known.expression("bm25").replace(" * ", " · ")
    if not known.bm25_weight and not known.logit_weight:
        score = "the application's own ranking"
    if known.phase == "first":
        return score
    return f"{score}, {known.phase} phase, best {known.rerank_count}"


def challenger(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the comparison of the best profile except the baseline; the first of equal ones.

    One that is significantly better comes before one with a larger difference that is not.
    """

    def rank(row: Mapping[str, Any]) -> tuple[bool, float]:
        return verdict(row) == "better", row["mean_difference"]

    return max(evaluation.comparisons, key=rank, default=None)


def verdict(comparison: Mapping[str, Any]) -> str:
    """Classify a comparison: better, worse, uncertain, noise."""
    low, high = comparison["interval"]
    if low <= 0 <= high:
        return "noise"
    # The interval is not corrected for the number of comparisons, so it alone proves nothing.
    if comparison["p_holm"] >= SIGNIFICANT:
        return "uncertain"
    return "better" if low > 0 else "worse"


def headline(evaluation: Evaluation) -> str:
    """Say in one sentence which profile won, and how certain that is."""
    best, base = challenger(evaluation), evaluation.baseline
    measure, counted = evaluation.measures[0], queries(evaluation.figures["dataset"]["queries"])
    if best is None:
        value = number(evaluation.mean(base, measure))
        return f"{base} reaches {measure} {value} on {counted}; no other profile was evaluated"
    # Without a single difference, "comes closest" would be a strange way to put it.
    if best["wins"] == best["losses"] == 0:
        return f"No profile is better than {base}: {best['profile']} scores the same on {counted}"
    result = verdict(best)
    gain = f"{signed(best['mean_difference'])} {measure}"
    certainty = f"95 % CI {interval(best['interval'])}, {counted}"
    if result == "better":
        return f"{best['profile']} beats {base} by {gain} ({certainty})"
    reasons = {
        "noise": "the difference is within noise",
        "worse": "that is significantly worse",
        "uncertain": f"corrected for {len(evaluation.comparisons)} comparisons, that is not "
        f"significant (p {best['p_holm']:.3f})",
    }
    how = "reliably better" if best["mean_difference"] > 0 else "better"
    return (
        f"No profile is {how} than {base} on these queries: {best['profile']} comes closest "
        f"with {gain} ({certainty}); {reasons[result]}"
    )


def recommendation(evaluation: Evaluation, training: Mapping[str, Any] | None) -> str:
    """Say which profile the package recommends, how it was chosen, and if it is the best here."""
    name = evaluation.figures["recommended_profile"]
    if training is None:
        chosen = "chosen on unknown queries (add the folder of the checkpoint to the report)"
    else:
        known = bool(_known(evaluation, training))
        chosen = report_of(training).choice(training, on_this_page=known)
    return f"The application recommends {name}, {chosen}. {_holds(evaluation, name)}"


def cautions(evaluation: Evaluation, training: Mapping[str, Any] | None) -> list[str]:
    """Say what limits the figures."""
    return [
        *_leaks(evaluation, training),
        *_holes(evaluation),
        *_returned(evaluation),
        *_too_shallow(evaluation),
    ]


def _holds(evaluation: Evaluation, name: str) -> str:
    measure = evaluation.measures[0]
    if name not in evaluation.profiles:
        return "It was not evaluated here."
    best = max(evaluation.profiles, key=lambda profile: evaluation.mean(profile, measure))
    if evaluation.mean(name, measure) >= evaluation.mean(best, measure):
        return f"It also has the highest {measure} here."
    return f"Here {best} has a higher {measure}."


def _known(evaluation: Evaluation, training: Mapping[str, Any]) -> set[str]:
    """Return the measured queries that training used, to learn from or to choose by."""
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
            f"These queries were held out of training, but {report_of(training).CHOSEN} were "
            "chosen on them, so the figures are somewhat optimistic."
        ]
    return [
        "Training used the judgements of some of these queries, so the figures of profiles with "
        "the model are too optimistic. Evaluate on a split that training did not use."
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
        f"Many retrieved documents are unjudged: {names[0]} is {', '.join(lower)}, but "
        f"{evaluation.baseline} {number(base)}. Unjudged documents count as not relevant, so the "
        "true figures of the former may be higher."
    ]


def _returned(evaluation: Evaluation) -> list[str]:
    sentences = []
    for profile in evaluation.profiles:
        figures = evaluation.figures["profiles"][profile]
        if empty := len(figures["queries_without_hits"]):
            sentences.append(f"{profile} found nothing for {queries(empty)}; each counts 0.")
        if unknown := figures["unknown_hits"]:
            share = 100 * unknown / figures["hits"]
            sentences.append(
                f"{unknown} hits of {profile} ({share:.1f} %) are documents that are not in the "
                "dataset; they count as not relevant."
            )
    if left := evaluation.figures["dataset"].get("bad_rows_left_out"):
        sentences.append(f"{left:,} malformed rows of the data were skipped (--skip-bad).")
    if hopeless := evaluation.figures["dataset"]["queries_without_relevant"]:
        sentences.append(
            f"{queries(hopeless)} without any relevant document counted 0 for every profile."
        )
    return sentences


def _too_shallow(evaluation: Evaluation) -> list[str]:
    hits = evaluation.figures["arguments"]["hits"]
    cut = [
        name
        for name in evaluation.measures
        if (cutoff := re.search(r"@(\d+)$", name)) and int(cutoff[1]) > hits
    ]
    if not cut:
        return []
    return [f"{', '.join(cut)} covered only {hits} hits, since no more were requested."]
