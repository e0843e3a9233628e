"""The model card: training.json for people, in the form that model hubs render.

YAML front matter, then what the model is worth, what it is for, and what it was made from.  What
depends on the task is in the task's own module, found by its name in `CARDS`.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from ranker.model import relevance_card
from ranker.model.markdown import escaped, table
from ranker.model.task import RELEVANCE, task_of

__all__ = ["CARDS", "TaskCard", "card", "origin_card"]

Training = Mapping[str, Any]


class TaskCard(Protocol):
    """A task's part of the model card; a module may be one."""

    def front_matter(self, training: Training, name: str) -> dict[str, Any]:
        """Return the fields for hubs besides licence, library and base model."""
        ...

    def summary(self, training: Training) -> list[str]:
        """Return what the model is."""
        ...

    def worth(self, training: Training, *, forced: bool) -> list[str]:
        """Return how good it is, and whether it was exported in spite of that."""
        ...

    def use(self, training: Training) -> list[str]:
        """Return what it is for, and its limits."""
        ...

    def folds(self, cv: Mapping[str, Any]) -> list[str]:
        """Return what each fold of its cross-validation did."""
        ...


CARDS: dict[str, TaskCard] = {RELEVANCE.name: relevance_card}
_DROPPED = {
    "repeated": "that are repeated",
    "unknown_document": "of documents that are not in the corpus",
    "judged": "that ask what a judged query asks",
    "rank": "for which BM25 does not retrieve the source document",
}


def card(training: Training, *, name: str, forced: bool | None = None) -> str:
    """Return the text of a model's README.md.

    Args:
        training: the content of training.json.
        name: the name of the model.
        forced: of a bundle: whether it was exported although it is not better than BM25; None for
            a checkpoint, which has the curves next to it.
    """
    base, part = training["base"], CARDS[task_of(training).name]
    fields = {
        "license": base["license"],
        "library_name": "transformers",
        **({} if base["folder"] else {"base_model": base["name"]}),
        **part.front_matter(training, name),
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    parts = [
        "\n".join(["---", *lines, "---"]),  # JSON is YAML
        f"# {escaped(name)}",
        *part.summary(training),
        *part.worth(training, forced=bool(forced)),
        *part.use(training),
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
    applied = f"sentence-transformers applies `{origin['activation']}`"
    output = f"the raw logit; {applied} to it"
    if labels := origin.get("labels"):
        output = (
            f"the logit of its label {labels[1]} minus that of {labels[0]}, by which documents are "
            f"ordered as by the probability of {labels[1]}; {applied} to the two"
        )
    parts = [
        "\n".join(["---", *(f"{key}: {value}" for key, value in fields.items()), "---"]),
        f"# {name}",
        f"The cross-encoder `{origin['name']}`{revision} as ONNX for Vespa, unchanged. It was "
        f"not trained by ranker. Its output is {output}.",
        "**Not known to be better than BM25** on your queries: measure it with `ranker evaluate`. "
        "No weight was learned for the blend, so it is 1; `ranker train` learns one.",
        *(f"**Caution**: {caution}." for caution in origin["cautions"]),
        "## Files it was made from (SHA-256)",
        "\n".join(files),
    ]
    return "\n\n".join(parts) + "\n"


def _data(training: Training) -> list[str]:
    data, source = training["data"], training["source"]
    split = f", split {data['split']}" if data["split"] else ""
    files = sorted(source["files"].items()) if source else []
    rows = [[f"`{name}`", f"`{digest}`"] for name, digest in files]
    return [
        "## Training data",
        f"{escaped(data['name'])}{split}: {data['documents']:,} documents, {data['queries']:,} "
        f"queries, {data['judgements']:,} judgements. SHA-256 of the content, regardless of its "
        f"form on disk: `{data['sha256']}`",
        *([table(["file", "SHA-256"], rows)] if rows else []),
        *_synthetic(training.get("synthetic")),
    ]


def _synthetic(synthetic: Mapping[str, Any] | None) -> list[str]:
    """Return what was kept of a file of synthetic queries."""
    if synthetic is None:
        return []
    dropped = ", ".join(
        f"{count:,} {_DROPPED[reason]}" for reason, count in synthetic["dropped"].items() if count
    )
    return [
        f"Synthetic queries from `{synthetic['file']}` (SHA-256 `{synthetic['sha256']}`): of "
        f"{synthetic['rows']:,} rows {synthetic['kept']:,} were kept, whose source document is in "
        f"BM25's top {synthetic['rank']}" + (f"; dropped: {dropped}." if dropped else ".")
    ]


def _making(training: Training, *, curves: bool) -> list[str]:
    """Return stages, folds, curves, options, and how to reproduce the model."""
    stages = [
        [
            row["stage"],
            f"{row['best_step']} of {row['steps']}" + (", stopped" * row["stopped_early"]),
            _sources(training["documents_by_source"].get(row["stage"], {})),
        ]
        for row in training["stages"]
    ]
    named = {
        **training["arguments"],
        "base": training["base"]["name"],
        "head": training.get("head", training["arguments"].get("head")),
    }  # without paths of the machine
    if teacher := training.get("teacher"):
        named["teacher"] = teacher["name"]
    if synthetic := training.get("synthetic"):
        named["synthetic"] = synthetic["file"]
    options = [[f"`{key}`", f"`{value}`"] for key, value in sorted(named.items())]
    cv, parts = training["cv"], ["## How it was made"]
    parts.append(table(["stage", "steps", "documents learned from"], stages))
    if curves:
        parts.append(f"![Loss and held-out {training['measure']} over the steps](loss.svg)")
    if cv:
        parts += CARDS[task_of(training).name].folds(cv)
        if curves:
            parts.append(f"![Loss and {training['measure']} of the folds](cv/folds.svg)")
    again = (
        "`ranker train --reproduce training.json --out ELSEWHERE` trains it again; on the same "
        "machine with the same versions the weights come out the same."
    )
    return [
        *parts,
        f"Seed {training['arguments']['seed']}, computed in {training['precision']}, took "
        f"{training['seconds'] / 60:.1f} minutes. All options:",
        table(["option", "value"], options),
        *([again] if curves else []),
    ]


def _versions(training: Training) -> list[str]:
    rows = [[name, str(value)] for name, value in training["versions"].items()]
    return ["## Versions and machine", table(["", ""], rows)]


def _licences(training: Training) -> list[str]:
    base, source, teacher = training["base"], training["source"], training.get("teacher")
    data = source["license"] if source else "unknown"
    unsure = " (not stated; find out before you distribute the model)"
    return [
        "## Licences",
        f"- Base model: {base['license']}{unsure if base['license'] == 'unknown' else ''}\n"
        f"- Data: {escaped(data)}{unsure if data == 'unknown' else ''}"
        + (f"\n- Teacher: {escaped(teacher['name'])}, {teacher['license']}" if teacher else ""),
    ]


def _sources(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {source}" for source, count in counts.items()) or "-"
