"""The model card: training.json for people, in the form that model hubs render.

YAML front matter, then what the model is worth, what it is for, and what it was made from.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ranker.metrics.gate import caution, shortfall, verdict_of

__all__ = ["card", "origin_card"]

Training = Mapping[str, Any]
_PROFILES = ("bm25", "base", "pretrained", "synthetic", "cross", "blend")
_RUNS = {
    "bm25": "BM25",
    "base": "base model, before any training",
    "pretrained": "after pretraining on the corpus",
    "synthetic": "after learning from synthetic queries",
    "cross": "cross-encoder (`cross`)",
    "blend": "blend with BM25 (`blend`)",
}

_DROPPED = {
    "repeated": "that came before",
    "unknown_document": "of documents that are not in the corpus",
    "judged": "that ask what a judged query asks",
    "rank": "whose own document BM25 does not find",
}


def card(training: Training, *, name: str, forced: bool | None = None) -> str:
    """The text of a model's README.md.

    Args:
        training: the content of training.json.
        name: of the model.
        forced: of a bundle: whether it was exported although it is not better than BM25; None for
            a checkpoint, which has the curves beside it.
    """
    parts = [
        _front_matter(training, name),
        f"# {_text(name)}",
        *_summary(training),
        *_worth(training, forced=bool(forced)),
        *_use(training),
        *_data(training),
        *_making(training, curves=forced is None),
        *_versions(training),
        *_licences(training),
    ]
    return "\n\n".join(parts) + "\n"


def origin_card(origin: Mapping[str, Any], name: str) -> str:
    """Return the README.md of a bundle of an existing cross-encoder: where it is from.

    Args:
        origin: as `open_cross_encoder` records it.
        name: of the bundle.
    """
    fields = {"license": origin["license"], "pipeline_tag": "text-ranking"}
    if not origin["folder"]:
        fields["base_model"] = origin["name"]
    files = [f"- `{file}`: `{digest}`" for file, digest in sorted(origin["files"].items())]
    revision = f", revision `{origin['revision']}`" if origin["revision"] else ""
    parts = [
        "\n".join(["---", *(f"{key}: {value}" for key, value in fields.items()), "---"]),
        f"# {name}",
        f"The cross-encoder `{origin['name']}`{revision} as ONNX for Vespa, unchanged. It was "
        "not trained by ranker. Its output is the raw logit; sentence-transformers applies "
        f"`{origin['activation']}` to it.",
        "**Not known to be better than BM25** on your queries: measure it with `ranker evaluate`. "
        "No weight was learned for the blend, so it is 1; `ranker train` learns one.",
        *(f"**Caution**: {caution}." for caution in origin["cautions"]),
        "## Files it was made from (SHA-256)",
        "\n".join(files),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(training: Training, name: str) -> str:
    """What hubs read; every value is JSON, which is YAML."""
    base, data = training["base"], training["data"]
    fields: dict[str, Any] = {
        "license": base["license"],
        "library_name": "transformers",
        "pipeline_tag": "text-ranking",
        "tags": ["cross-encoder", "reranker", "text-ranking", "vespa", "ranker"],
        "metrics": ["ndcg"],
    }
    if not base["folder"]:
        fields["base_model"] = base["name"]
    dataset = {"name": data["name"], "type": re.sub(r"[^\w.-]+", "-", data["name"])}
    metrics = [
        {"type": "ndcg_at_10", "name": f"nDCG@10 ({profile})", "value": round(value, 4)}
        for profile, value in training["held_out"].items()
        if profile in _PROFILES
    ]
    task = {"type": "text-ranking", "name": "reranking of BM25"}
    result = {"task": task, "dataset": dataset, "metrics": metrics}
    fields["model-index"] = [{"name": name, "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _summary(training: Training) -> list[str]:
    base, data = training["base"], training["data"]
    origin = f"the model in the folder `{base['name']}`" if base["folder"] else f"`{base['name']}`"
    return [
        f"A cross-encoder that reranks what BM25 finds: {origin}, fine-tuned by ranker "
        f"{training['ranker_version']} on {data['queries']:,} judged queries of "
        f"{_text(data['name'])}. One logit for a query and a document; higher is more relevant.",
    ]


def _worth(training: Training, *, forced: bool) -> list[str]:
    """The verdict, and the figures that it rests on."""
    gate, profile = training["gate"], training["recommended_profile"]
    said = {
        "passed": f"Better than BM25 on {gate['queries']} queries that the ranking model had not "
        "seen (95 % interval above 0 and p below 0.05 after Holm).",
        "not_better": "**Not shown to be better than BM25**",
        "unknown": "**Not known to be better than BM25**",
    }[verdict_of(training)]
    if verdict_of(training) == "not_better":
        said += f": {shortfall(gate)}."
    if verdict_of(training) == "unknown":
        said += f": {caution(training)}."
    if forced:
        said += " **It was exported all the same, with `--force`.**"
    weight = f"`bm25 + {training['blend_weight']:g} * logit`"
    parts = ["## Is it better than BM25?", said]
    parts.append(f"Recommended rank profile: `{profile}`. The blend is {weight}.")
    if training["cv"]:
        return [*parts, *_fold_figures(training)]
    held = training["held_out"]
    rows = [[_RUNS[name], f"{held[name]:.4f}"] for name in _PROFILES if name in held]
    return [*parts, _table([f"nDCG@10, {held['queries']} queries held out", "mean"], rows)]


def _fold_figures(training: Training) -> list[str]:
    gate, cv = training["gate"], training["cv"]
    runs = [
        [_RUNS[name], f"{row['mean']:.4f}", _interval(row["interval"], ".4f")]
        for name in _PROFILES
        if (row := gate["runs"].get(name))
    ]
    rows = [
        [
            f"{row['profile']} - {row['baseline']}",
            f"{row['mean_difference']:+.4f}",
            _interval(row["interval"], "+.4f"),
            f"{row['p_holm']:.4f}",
            f"{row['wins']} / {row['ties']} / {row['losses']}",
        ]
        for row in [*gate["comparisons"], *gate["effects"]]
    ]
    return [
        f"Cross-validated by query in {cv['folds']} folds, near-duplicate queries in the same one: "
        f"each of the {gate['queries']} queries is ranked by a model, and blended with a weight, "
        f"that did not see it. The best {cv['depth']} documents of BM25 are reranked.",
        _table(["out of fold", "nDCG@10", "95 % interval"], runs),
        _table(["difference", "nDCG@10", "95 % interval", "p (Holm)", "won / tied / lost"], rows),
        "Intervals are percentile bootstraps over queries, p-values paired randomisation tests. "
        "The rows against BM25 and base are corrected together, those of the stages likewise.",
    ]


def _use(training: Training) -> list[str]:
    arguments = training["arguments"]
    return [
        "## Intended use and limits",
        "Second-phase ranking of the documents that BM25 finds for a query, in Vespa or in "
        "ranker's embedded engine, on texts like those it learned from. `ranker export` turns the "
        "checkpoint into ONNX, `ranker package` into a Vespa application.",
        f"- A query has {arguments['query_slots']} slots and a document "
        f"{arguments['document_slots']}, special tokens included; the rest of a longer text is "
        "not seen.\n"
        "- The figures hold for this collection and its judges. On other subjects, languages or "
        "kinds of query it may be worse than BM25: evaluate it there first.\n"
        "- Documents that nobody judged count as not relevant, in training and in the figures.\n"
        "- A logit is no probability, and logits of different queries do not compare.\n"
        "- What the base model and the judges are biased to, it is likely to be biased to.",
    ]


def _data(training: Training) -> list[str]:
    data, source = training["data"], training["source"]
    split = f", split {data['split']}" if data["split"] else ""
    files = sorted(source["files"].items()) if source else []
    rows = [[f"`{name}`", f"`{digest}`"] for name, digest in files]
    return [
        "## Training data",
        f"{_text(data['name'])}{split}: {data['documents']:,} documents, {data['queries']:,} "
        f"queries, {data['judgements']:,} judgements. SHA-256 of the content, whatever its form "
        f"on disk: `{data['sha256']}`",
        *([_table(["file", "SHA-256"], rows)] if rows else []),
        *_synthetic(training.get("synthetic")),
    ]


def _synthetic(found: Mapping[str, Any] | None) -> list[str]:
    """What became of a file of synthetic queries."""
    if found is None:
        return []
    dropped = ", ".join(
        f"{count:,} {_DROPPED[reason]}" for reason, count in found["dropped"].items() if count
    )
    return [
        f"Synthetic queries from `{found['file']}` (SHA-256 `{found['sha256']}`): of "
        f"{found['rows']:,} rows {found['kept']:,} were kept, whose own document is among the best "
        f"{found['rank']} of BM25" + (f"; dropped: {dropped}." if dropped else ".")
    ]


def _making(training: Training, *, curves: bool) -> list[str]:
    """Stages, folds, curves, options, and how to do it again."""
    stages = [
        [
            row["stage"],
            f"{row['best_step']} of {row['steps']}" + (", stopped" * row["stopped_early"]),
            _sources(training["documents_by_source"].get(row["stage"], {})),
        ]
        for row in training["stages"]
    ]
    named = {**training["arguments"], "base": training["base"]["name"]}  # no path of a machine
    if teacher := training.get("teacher"):
        named["teacher"] = teacher["name"]
    if synthetic := training.get("synthetic"):
        named["synthetic"] = synthetic["file"]
    options = [[f"`{key}`", f"`{value}`"] for key, value in sorted(named.items())]
    cv, parts = training["cv"], ["## How it was made"]
    parts.append(_table(["stage", "steps", "documents in the groups of its epochs"], stages))
    if curves:
        parts.append("![Loss and held-out nDCG@10 over the steps](loss.svg)")
    if cv:
        parts += _folds(cv)
        if curves:
            parts.append("![Loss and nDCG@10 of the folds](cv/folds.svg)")
    again = (
        "`ranker train --reproduce training.json --out ELSEWHERE` trains it again; on the same "
        "machine with the same versions the weights come out the same."
    )
    return [
        *parts,
        f"Seed {training['arguments']['seed']}, computed in {training['precision']}, took "
        f"{training['seconds'] / 60:.1f} minutes. All options:",
        _table(["option", "value"], options),
        *([again] if curves else []),
    ]


def _folds(cv: Mapping[str, Any]) -> list[str]:
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
        "folds' best. The stages before the judged one use no judgement, so all share them.",
        _table(headers, rows),
    ]


def _versions(training: Training) -> list[str]:
    rows = [[name, str(value)] for name, value in training["versions"].items()]
    return ["## Versions and machine", _table(["", ""], rows)]


def _licences(training: Training) -> list[str]:
    base, source, teacher = training["base"], training["source"], training.get("teacher")
    data = source["license"] if source else "unknown"
    unsure = " (nobody said; find out before you pass the model on)"
    return [
        "## Licences",
        f"- Base model: {base['license']}{unsure if base['license'] == 'unknown' else ''}\n"
        f"- Data: {_text(data)}{unsure if data == 'unknown' else ''}"
        + (f"\n- Teacher: {_text(teacher['name'])}, {teacher['license']}" if teacher else ""),
    ]


def _sources(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {source}" for source, count in counts.items()) or "-"


def _interval(ends: Sequence[float], form: str) -> str:
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
    )


def _text(value: str) -> str:
    """A name on one line, so that no markup can come of it."""
    return re.sub(r"([\\`*_<>\[\]#|])", r"\\\1", " ".join(value.split()))
