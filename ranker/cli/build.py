"""Verbs that make artifacts: train, export, package, verify."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ranker.cli.console import emit, note, progress, save_options, table
from ranker.errors import ArtifactError

__all__ = ["register"]

Data = Annotated[
    str,
    typer.Argument(
        help="Judged data: a BEIR or TREC folder, a CSV/TSV/JSONL/parquet file with query, title "
        "and label, or an ir_datasets id."
    ),
]
Format = Annotated[
    str | None,
    typer.Option(help="beir, trec, csv, tsv, jsonl, parquet or ir_datasets; detected if absent."),
]
Split = Annotated[str | None, typer.Option(help="Split of the judgements: train, test, ...")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count and list bad rows, go on.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    app.command(epilog="Example: ranker train data/scifact --warmup --out checkpoint")(train)
    app.command(epilog="Example: ranker export checkpoint --data data/scifact --out bundle")(export)
    app.command(epilog="Example: ranker package bundle --out app")(package)
    app.command(epilog="Example: ranker verify app --pairs 200")(verify)


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    base: Annotated[
        str, typer.Option(help="Base model: a folder or Hugging Face id.")
    ] = "all-MiniLM-L6-v2",
    format: Format = None,
    split: Annotated[
        str | None, typer.Option(help="Split to learn from; train where there is one.")
    ] = None,
    skip_bad: SkipBad = False,
    warmup: Annotated[
        bool, typer.Option("--warmup/--no-warmup", help="Learn from the corpus itself first.")
    ] = False,
    warmup_steps: Annotated[int, typer.Option(help="Steps of the first stage.")] = 300,
    warmup_learning_rate: Annotated[float, typer.Option(help="Its peak learning rate.")] = 1e-4,
    relevant: Annotated[int, typer.Option(help="Lowest grade of an answer.")] = 1,
    loss: Annotated[str, typer.Option(help="bce, pairwise or listwise.")] = "listwise",
    epochs: Annotated[int, typer.Option(help="Passes over the judged positives.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 5e-5,
    groups: Annotated[int, typer.Option(help="Queries in a step.")] = 8,
    negatives: Annotated[int, typer.Option(help="Negatives for each positive.")] = 5,
    random_negatives: Annotated[int, typer.Option(help="Of these, drawn at random.")] = 0,
    depth: Annotated[int, typer.Option(help="Hard negatives: the best DEPTH of BM25.")] = 60,
    held_out: Annotated[float, typer.Option(help="Share of queries for early stopping.")] = 0.2,
    evaluations: Annotated[int, typer.Option(help="Evaluations in an epoch.")] = 1,
    patience: Annotated[int, typer.Option(help="Evaluations without gain before it stops.")] = 2,
    dropout: Annotated[float, typer.Option(help="Dropout while training.")] = 0.1,
    freeze: Annotated[str, typer.Option(help="Keep the weights: none, embeddings, base.")] = "none",
    schedule: Annotated[str, typer.Option(help="linear or cosine.")] = "linear",
    lr_warmup: Annotated[float, typer.Option(help="Share of steps with rising rate.")] = 0.1,
    weight_decay: Annotated[float, typer.Option(help="AdamW's weight decay.")] = 0.01,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = 1.0,
    query_slots: Annotated[int, typer.Option(help="Slots of the query, CLS, SEP included.")] = 32,
    document_slots: Annotated[int, typer.Option(help="Slots of the document, SEP included.")] = 96,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Fine-tune a cross-encoder on judged queries.

    A share of the queries is held out: training stops when nDCG@10 on them gets no better, and
    the blend with BM25 learns its weight there. After an interruption the same command goes on.
    """
    from ranker.dataset import load, splits
    from ranker.train import TrainArguments
    from ranker.train import train as run

    given = {name: value for name, value in locals().items() if not callable(value)}
    names = TrainArguments.__dataclass_fields__
    arguments = TrainArguments(**{name: given[name] for name in names})
    if split is None and "train" in splits(data, format=format):
        split = "train"
    dataset = load(data, format=format, split=split, skip_bad=skip_bad)
    _tell_skipped(dataset)
    with progress(quiet=as_json) as bars:
        checkpoint = run(dataset, out, arguments=arguments, on_progress=_training_bar(bars))
    save_options("train", {k: given[k] for k in (*names, *_DATA, "out")}, out)
    report = checkpoint.training
    held = report["held_out"]
    rows = [[name, f"{held[name]:.4f}"] for name in ("bm25", "cross", "blend")]
    headers = [f"held out ({held['queries']} queries)", "nDCG@10"]
    emit(
        {"checkpoint": str(out), **{key: report[key] for key in _TRAIN_KEYS}},
        as_json=as_json,
        text=f"{table(headers, rows)}\n"
        f"blend: bm25 + {report['blend_weight']:g} * logit; recommended profile: "
        f"{report['recommended_profile']}\ncheckpoint: {out}",
    )


_DATA = ("data", "format", "split", "skip_bad")
_TRAIN_KEYS = ("held_out", "blend_weight", "recommended_profile", "seconds")


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of `ranker train`.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    data: Annotated[
        str | None, typer.Option(help="Judged data: check on its real pairs too.")
    ] = None,
    format: Format = None,
    opset: Annotated[int, typer.Option(help="ONNX opset; 17 loads everywhere.")] = 17,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint into a checked ONNX bundle.

    The bundle is written only if its logits equal torch's within 1e-4, on made-up pairs of every
    length and on the pairs of --data.
    """
    from ranker.bundle import Checkpoint
    from ranker.export import export as run
    from ranker.files import read_json

    opened = Checkpoint.open(checkpoint)
    pairs = _real_pairs(opened.encoder(), data, format) if data else []
    note(f"exporting and comparing with torch on {len(pairs) + 64} pairs ...")
    bundle = run(opened, out, pairs=pairs, opset=opset)
    save_options(
        "export", {"checkpoint": checkpoint, "out": out, "opset": opset, "data": data}, out
    )
    check = read_json(out / "parity.json", what="bundle")
    worst = max(check["largest_difference"].values())
    size = bundle.model.stat().st_size / 1e6
    emit(
        {"bundle": str(out), "fingerprint": bundle.spec.fingerprint, "parity": check},
        as_json=as_json,
        text=f"equal to torch within {worst:.1e} on {check['pairs']} pairs; "
        f"{size:.1f} MB, opset {check['opset']}, IR {check['ir_version']}, "
        f"contract {bundle.spec.fingerprint}\nbundle: {out}",
    )


def package(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Bundle of `ranker export`; without one, the default text only."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the application package.")] = Path("app"),
    name: Annotated[str, typer.Option(help="Name of the application.")] = "ranker",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the folder differs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the Vespa application package of a bundle."""
    from ranker import package as packages
    from ranker.bundle import Bundle

    opened = Bundle.open(bundle) if bundle is not None else None
    if check:
        spec = opened.spec if opened else packages.DEFAULT_SPEC
        weight = opened.blend_weight if opened else 1.0
        texts = packages.render(spec, blend_weight=weight, application=name)
        found = packages.differences(out, texts)
        if found:
            raise ArtifactError("; ".join(found) + "; write it again with `ranker package`")
        emit(
            {"checked": str(out), "files": sorted(texts)}, as_json=as_json, text=f"{out} is current"
        )
        return
    if opened is None:
        packages.write_default(out)
        emit({"application": str(out)}, as_json=as_json, text=f"default application: {out}")
        return
    written = packages.write(opened, out, application=name)
    save_options("package", {"bundle": bundle, "out": out, "name": name}, out)
    profiles = ", ".join(profile.name for profile in written.manifest.profiles)
    emit(
        {"application": str(out), "manifest": written.manifest.to_dict()},
        as_json=as_json,
        text=f"rank profiles: {profiles} (recommended: {written.manifest.recommended_profile})\n"
        f"application package: {out}",
    )


def verify(
    app: Annotated[Path, typer.Argument(help="Application package of `ranker package`.")],
    data: Annotated[
        str | None, typer.Option(help="Judged data to take texts from; nasty ones if absent.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Query-document pairs to compare.")] = 200,
    strict: Annotated[
        bool, typer.Option("--strict", help="What could not be checked is a failure.")
    ] = False,
    vespa: Annotated[str | None, typer.Option(help="Vespa release to check against.")] = None,
    as_json: Json = False,
) -> None:
    """Check a package with Vespa's own Java code: is it valid, are ids and scores equal."""
    from ranker.errors import VerifyError
    from ranker.verify import VESPA_VERSION
    from ranker.verify import verify as run

    results = run(
        app,
        data=data,
        pairs=pairs,
        strict=strict,
        version=vespa or VESPA_VERSION,
        on_check=lambda result: note(f"{result.name}: {result.status}"),
    )
    rows = [
        [result.name, result.status, "; ".join(f"{k} {v:g}" for k, v in result.figures.items())]
        for result in results
    ]
    details = [
        line
        for result in results
        for line in (*result.problems, *result.warnings, *result.skipped, result.difference or "")
        if line
    ]
    emit(
        {"checks": [result.to_dict() for result in results]},
        as_json=as_json,
        text="\n".join([table(["check", "result", "figures"], rows), *details]),
    )
    for result in results:
        if result.problems:
            raise VerifyError(f"{result.name}: {result.problems[0]}")


def _real_pairs(encoder: Any, data: str, format: str | None, most: int = 200) -> list[Any]:
    """Judged pairs of a collection as token ids, spread over its queries."""
    from ranker.dataset import load

    dataset = load(data, format=format)
    judged = [(query_id, doc_id) for query_id, row in dataset.qrels.items() for doc_id in row]
    judged = judged[:: max(1, len(judged) // most)][:most]
    documents = encoder.documents_ids([dataset.documents[doc_id] for _, doc_id in judged])
    queries = encoder.queries_ids([dataset.queries[query_id].text for query_id, _ in judged])
    return list(zip(queries, documents, strict=True))


def _training_bar(bars: Any) -> Any:
    """Draws a stage's progress: loss, nDCG@10, time left."""
    tasks: dict[str, Any] = {}
    last: dict[str, str] = {}

    def show(stage: str, step: int, steps: int, loss: float | None, ndcg: float | None) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=steps, info="")
        if loss is not None:
            last["loss"] = f"loss {loss:.3f}"
        if ndcg is not None:
            last["ndcg"] = f"nDCG@10 {ndcg:.4f}"
            note(f"{stage} step {step}/{steps}: {' '.join(last.values())} (held-out queries)")
        bars.update(tasks[stage], completed=step, info=" ".join(last.values()))

    return show


def _tell_skipped(dataset: Any) -> None:
    for line in dataset.skipped:
        note(f"skipped: {line}")
