"""The words of a model card that belong to relevance: what a reranker is, and its worth."""

import re
from collections.abc import Mapping
from typing import Any

from ranker.artifacts.calibration import calibration_of, why_uncalibrated
from ranker.metrics.gate import JUDGED, caution, shortfall, verdict_of
from ranker.model.markdown import escaped, interval, table

__all__ = ["folds", "front_matter", "summary", "use", "worth"]

Training = Mapping[str, Any]
_PROFILES = ("bm25", "base", "pretrained", "synthetic", "judged", "cross", "blend")
_RUNS = {
    "bm25": "BM25",
    "base": "base model, before any training",
    "pretrained": "after pretraining on the corpus",
    "synthetic": "after learning from synthetic queries",
    "judged": "after learning from judged queries",
    "cross": "cross-encoder (`cross`)",
    "blend": "blend with BM25 (`blend`)",
}


def front_matter(training: Training, name: str) -> dict[str, Any]:
    """Return the fields by which hubs find a reranker and show its figures."""
    data = training["data"]
    dataset = {"name": data["name"], "type": re.sub(r"[^\w.-]+", "-", data["name"])}
    metrics = [
        {"type": "ndcg_at_10", "name": f"nDCG@10 ({profile})", "value": round(value, 4)}
        for profile, value in training["held_out"].items()
        if profile in _PROFILES
    ]
    task = {"type": "text-ranking", "name": "reranking of BM25"}
    result = {"task": task, "dataset": dataset, "metrics": metrics}
    index = {"name": name, "results": [result]}
    return {
        "pipeline_tag": "text-ranking",
        "tags": ["cross-encoder", "reranker", "text-ranking", "vespa", "ranker"],
        "metrics": ["ndcg"],
        # Figures on queries that the base has learned from are none to publish.
        **({} if training.get("learned_by_base") else {"model-index": [index]}),
    }


def summary(training: Training) -> list[str]:
    """Return what the model is, in a sentence or two."""
    base, data = training["base"], training["data"]
    origin = f"the model in the folder `{base['name']}`" if base["folder"] else f"`{base['name']}`"
    made = f"fine-tuned by ranker {training['ranker_version']} on"
    if training["gate"].get("stage") == "base":
        made = f"not trained further, since ranker {training['ranker_version']} found no gain on"
    return [
        f"A cross-encoder that reranks what BM25 finds: {origin}, {made} {data['queries']:,} "
        f"judged queries of {escaped(data['name'])}. One logit for a query and a document; higher "
        "is more relevant.",
    ]


def worth(training: Training, *, forced: bool) -> list[str]:
    """Return the verdict of the ship gate, and the figures that it rests on."""
    gate, profile = training["gate"], training["recommended_profile"]
    verdict = {
        "passed": f"Better than BM25 on {gate['queries']} queries that the ranking model had not "
        "seen (95 % interval above 0 and p below 0.05 after Holm).",
        "not_better": "**Not shown to be better than BM25**",
        "unknown": "**Not known to be better than BM25**",
    }[verdict_of(training)]
    if verdict_of(training) == "not_better":
        verdict += f": {shortfall(gate)}."
    if verdict_of(training) == "unknown":
        verdict += f": {caution(training)}."
    if forced:
        verdict += " **It was exported nevertheless, with `--force`.**"
    weight = f"`bm25 + {training['blend_weight']:g} * logit`"
    parts = ["## Is it better than BM25?", verdict]
    if learned := training.get("learned_by_base"):
        parts.append(
            f"**The base model had already learned from {learned} of the judged queries, so the "
            "figures below are too good.**"
        )
    parts.append(f"Recommended rank profile: `{profile}`. The blend is {weight}.")
    if training["cv"]:
        return [*parts, *_fold_figures(training), *_probability(training)]
    held = training["held_out"]
    rows = [[_RUNS[name], f"{held[name]:.4f}"] for name in _PROFILES if name in held]
    figures = table([f"nDCG@10, {held['queries']} queries held out", "mean"], rows)
    return [*parts, figures, *_probability(training)]


def _fold_figures(training: Training) -> list[str]:
    gate, cv = training["gate"], training["cv"]
    runs = [
        [_RUNS[name], f"{row['mean']:.4f}", interval(row["interval"], ".4f")]
        for name in _PROFILES
        if (row := gate["runs"].get(name)) and not name == gate["stage"] == JUDGED
    ]
    rows = [
        [
            f"{row['profile']} - {row['baseline']}",
            f"{row['mean_difference']:+.4f}",
            interval(row["interval"], "+.4f"),
            f"{row['p_holm']:.4f}",
            f"{row['wins']} / {row['ties']} / {row['losses']}",
        ]
        for row in [*gate["comparisons"], *gate["effects"]]
    ]
    return [
        f"Cross-validated by query in {cv['folds']} folds, near-duplicate queries in the same one: "
        f"each of the {gate['queries']} queries is ranked by a model, and blended with a weight, "
        f"that did not see it. The best {cv['depth']} documents of BM25 are reranked. The model is "
        f"the one of the stage with the best mean: {_RUNS[gate['stage']]}.",
        table(["out of fold", "nDCG@10", "95 % interval"], runs),
        table(["difference", "nDCG@10", "95 % interval", "p (Holm)", "won / tied / lost"], rows),
        "Intervals are percentile bootstraps over queries, p-values paired randomisation tests. "
        "The rows against BM25 and base are corrected together with those of the stages that were "
        "not chosen, those of the stages likewise.",
    ]


def _probability(training: Training) -> list[str]:
    """Return what a logit means as a probability, and how well that holds."""
    parts, known = ["## What does a score mean?"], calibration_of(training)
    if known is None:
        return [*parts, f"**Uncalibrated**: {why_uncalibrated(training)}. A logit only ranks."]
    figures = training["calibration"]
    where = "out of fold" if training["cv"] else "on the queries held out"
    rows = [
        [
            f"{row['probability']:g}",
            "-" if row["precision"] is None else f"{row['precision']:.3f}",
            f"{row['pairs']:,}",
            f"{100 * row['queries']:.0f} %",
        ]
        for row in figures["thresholds"]
    ]
    return [
        *parts,
        f"A document that BM25 retrieves is judged relevant (grade {figures['min_grade']} or "
        f"higher) with the probability `{known.expression}`, learned {where}: "
        f"{figures['pairs']:,} pairs, {figures['relevant']:,} of them relevant; unjudged ones "
        f"count as not relevant. Brier score {figures['brier']:.4f} on queries outside the fit, of "
        f"the base rate alone {figures['base_rate_brier']:.4f}.",
        table(["probability of at least", "precision", "documents", "queries with one"], rows),
    ]


def use(training: Training) -> list[str]:
    """Return what the model is for, and its limits."""
    arguments = training["arguments"]
    return [
        "## Intended use and limits",
        "Second-phase ranking of the documents that BM25 finds for a query, in Vespa or in "
        "ranker's embedded engine, on texts like those it learned from. `ranker export` turns the "
        "checkpoint into ONNX, `ranker package` into a Vespa application. From Python:",
        _snippet(training),
        f"- A query has {arguments['query_slots']} slots and a document "
        f"{arguments['document_slots']}, special tokens included; the rest of a longer text is "
        "ignored.\n"
        "- The figures hold for this collection and its annotators. On other subjects, languages "
        "or kinds of query it may be worse than BM25: evaluate it there first.\n"
        "- Unjudged documents count as not relevant, in training and in the figures.\n"
        "- A logit is not a probability, and the order that it gives holds within a query.\n"
        "- It is likely to share the biases of the base model and of the annotators.",
    ]


def _snippet(training: Training) -> str:
    """Return how to score with the checkpoint from Python."""
    trust = ", trust_remote_code=True" if training.get("head") == "similarity" else ""
    return (
        "```python\n"
        "import ranker\n\n"
        'ranker.Reranker("FOLDER").score([("a query", "a document")])\n\n'
        "from sentence_transformers import CrossEncoder  # equal scores\n\n"
        f'CrossEncoder("FOLDER"{trust}).predict([("a query", "a document")])\n'
        "```"
    )


def folds(cv: Mapping[str, Any]) -> list[str]:
    """Return what each fold of the cross-validation did."""
    names = [name for name in _PROFILES if name in cv["by_fold"][0]["ndcg@10"]]
    rows = [
        [
            str(fold["fold"]),
            str(fold["queries"]),
            f"{fold['learned_from']} + {fold['held_out']}",
            f"{fold['best_step']} of {fold['steps']}",
            f"{fold['blend_weight']:g}",
            *[f"{fold['ndcg@10'][name]:.4f}" for name in names],
        ]
        for fold in cv["by_fold"]
    ]
    headers = ["fold", "queries", "learned from + stopped by", "best step", "weight", *names]
    return [
        f"The final model learned from all queries for {cv['steps']} steps, the median of the "
        "folds' best. The stages before the judged one use no judgements, so all "
        "folds share them.",
        table(headers, rows),
    ]
