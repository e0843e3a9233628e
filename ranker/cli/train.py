"""The verb that trains a cross-encoder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ranker.cli.console import emit, note, progress, save_options, table
from ranker.cli.data import tell_lint
from ranker.cli.options import DataOrNone, Format, Json, SkipBad, tell_skipped
from ranker.errors import UsageError

__all__ = ["register"]

Out = Annotated[Path, typer.Option(help="Folder of the checkpoint.")]
From = Annotated[
    Path | None,
    typer.Option(
        "--from", help="Repeat the training of this training.json, with its options and data."
    ),
]
Base = Annotated[str, typer.Option(help="Base model: a folder or Hugging Face id.")]
Split = Annotated[str | None, typer.Option(help="Split to learn from; train where there is one.")]
Lint = Annotated[bool, typer.Option("--lint/--no-lint", help="Say what is wrong with the data.")]
License = Annotated[str, typer.Option(help="Licence of the data, for the model card.")]
Warmup = Annotated[
    bool, typer.Option("--warmup/--no-warmup", help="Learn from the corpus itself first.")
]
WarmupSteps = Annotated[int, typer.Option(help="Steps of the first stage.")]
WarmupLearningRate = Annotated[float, typer.Option(help="Its peak learning rate.")]
Synthetic = Annotated[
    str | None,
    typer.Option(help="Then from synthetic queries: a CSV, TSV or JSONL file of query, doc_id."),
]
SyntheticRank = Annotated[
    int, typer.Option(help="Those that have their own document in the best N of BM25.")
]
SyntheticSteps = Annotated[int, typer.Option(help="Most steps of that stage.")]
Relevant = Annotated[int, typer.Option(help="Lowest grade of an answer.")]
Loss = Annotated[
    str, typer.Option(help="bce, pairwise, listwise, lambda; of a teacher: margin-mse, distill.")
]
Teacher = Annotated[
    str | None,
    typer.Option(help="Cross-encoder whose scores are learned from: a folder or Hugging Face id."),
]
Epochs = Annotated[int, typer.Option(help="Passes over the judged positives.")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate.")]
Groups = Annotated[int, typer.Option(help="Queries in a step.")]
Negatives = Annotated[int, typer.Option(help="Negatives for each positive.")]
RandomNegatives = Annotated[int, typer.Option(help="Of these, drawn at random.")]
Depth = Annotated[int, typer.Option(help="Hard negatives: the best DEPTH of BM25.")]
SkipTop = Annotated[int, typer.Option(help="But none of the best N, where nobody judged them.")]
Margin = Annotated[
    float | None,
    typer.Option(help="Nor unjudged ones above X times the positive's BM25 score, say 0.95."),
]
Refresh = Annotated[
    bool,
    typer.Option("--refresh", help="Choose each epoch's negatives by what the model has learned."),
]
LogitMargin = Annotated[
    float | None,
    typer.Option(help="Then none within X of the positive's logit (0: none above it)."),
]
Folds = Annotated[
    int, typer.Option(help="Cross-validate in so many folds, for the verdict of the ship gate.")
]
FoldWorkers = Annotated[
    int, typer.Option(min=1, help="Folds at once, as far as memory allows; they share the cores.")
]
HeldOut = Annotated[
    float, typer.Option(help="Share of queries for early stopping; with --cv, inside each fold.")
]
Evaluations = Annotated[int, typer.Option(help="Evaluations in an epoch.")]
Patience = Annotated[int, typer.Option(help="Evaluations without gain before it stops.")]
Dropout = Annotated[float, typer.Option(help="Dropout while training.")]
Freeze = Annotated[str, typer.Option(help="Keep the weights: none, embeddings, base.")]
Lora = Annotated[
    int, typer.Option(help="Rank of adapters that learn in place of the encoder (peft); 0: none.")
]
Accumulate = Annotated[
    int, typer.Option(help="Compute a step in N parts, for less memory; it stays one step.")
]
GradientCheckpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Less memory for a third more time.")
]
Schedule = Annotated[str, typer.Option(help="linear or cosine.")]
LrWarmup = Annotated[float, typer.Option(help="Share of steps with rising rate.")]
WeightDecay = Annotated[float, typer.Option(help="AdamW's weight decay.")]
Clip = Annotated[float, typer.Option(help="Largest norm of the gradient.")]
QuerySlots = Annotated[int, typer.Option(help="Slots of the query, CLS, SEP included.")]
DocumentSlots = Annotated[int, typer.Option(help="Slots of the document, SEP included.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16, or fp16 on a GPU.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]

_GIVEN = ("COMMANDLINE", "DEFAULT_MAP")
"""Where click has an option from that somebody named: the command, or the file of --config."""
_WITH_FROM = {"data", "out", "from_report", "lint", "as_json"}
_LINTED = ("data", "format", "relevant", "base", "query_slots", "document_slots")
_ORDER = ("bm25", "base", "warmed", "synthetic", "cross", "blend")
_KEYS = ("held_out", "blend_weight", "recommended_profile", "gate", "seconds")


def register(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command(epilog="Example: ranker train data/scifact --warmup --cv 5 --out checkpoint")(train)


def train(
    context: typer.Context,
    out: Out,
    data: DataOrNone = None,
    from_report: From = None,
    base: Base = "all-MiniLM-L6-v2",
    format: Format = None,
    split: Split = None,
    skip_bad: SkipBad = False,
    lint: Lint = True,
    license: License = "unknown",
    warmup: Warmup = False,
    warmup_steps: WarmupSteps = 300,
    warmup_learning_rate: WarmupLearningRate = 1e-4,
    synthetic: Synthetic = None,
    synthetic_rank: SyntheticRank = 20,
    synthetic_steps: SyntheticSteps = 300,
    relevant: Relevant = 1,
    loss: Loss = "listwise",
    teacher: Teacher = None,
    epochs: Epochs = 3,
    learning_rate: LearningRate = 5e-5,
    groups: Groups = 8,
    negatives: Negatives = 5,
    random_negatives: RandomNegatives = 0,
    depth: Depth = 60,
    skip_top: SkipTop = 0,
    margin: Margin = None,
    refresh: Refresh = False,
    logit_margin: LogitMargin = None,
    cv: Folds = 0,
    fold_workers: FoldWorkers = 1,
    held_out: HeldOut = 0.2,
    evaluations: Evaluations = 1,
    patience: Patience = 2,
    dropout: Dropout = 0.1,
    freeze: Freeze = "none",
    lora: Lora = 0,
    accumulate: Accumulate = 1,
    gradient_checkpointing: GradientCheckpointing = False,
    schedule: Schedule = "linear",
    lr_warmup: LrWarmup = 0.1,
    weight_decay: WeightDecay = 0.01,
    clip: Clip = 1.0,
    query_slots: QuerySlots = 32,
    document_slots: DocumentSlots = 96,
    precision: Precision = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fine-tune a cross-encoder on judged queries.

    A share of the queries is held out: training stops when nDCG@10 on them gets no better, and
    the blend with BM25 learns its weight there. With --cv every query is held out once, which
    says whether the model is better than BM25. After an interruption the same command goes on.

    On several GPUs: torchrun --standalone --nproc-per-node 4 -m ranker train ... shares every
    step among them, so that it is the step of one GPU, but for rounding and for what dropout draws.
    """
    given = {name: value for name, value in locals().items() if name != "context"}
    checkpoint = _repeated(context, given) if from_report else _trained(given)
    _tell(checkpoint.training, out, as_json=as_json)


def _tell(report: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Save the options beside the checkpoint and say what it is worth."""
    if not _is_first():
        return
    options = {**report["arguments"], **report["source"], "fold_workers": report["fold_workers"]}
    options.pop("files")
    save_options("train", {**options, "out": out}, out)
    emit(
        {"checkpoint": str(out), **{key: report[key] for key in _KEYS}},
        as_json=as_json,
        text=f"{_figures(report)}\n"
        f"blend: bm25 + {report['blend_weight']:g} * logit; recommended profile: "
        f"{report['recommended_profile']}\ncheckpoint: {out}",
    )


def _is_first() -> bool:
    """Whether this process is the one of several that speaks."""
    from ranker.train import is_first

    return is_first()


def _trained(given: dict[str, Any]) -> Any:
    """Train on DATA with the options given."""
    from ranker.dataset import load, split_names
    from ranker.train import TrainArguments, provenance
    from ranker.train import train as run

    if given["data"] is None:
        raise UsageError("Missing argument 'DATA': the judged data to learn from (or --from)")
    named = {name: given[name] for name in TrainArguments.__dataclass_fields__}
    arguments = TrainArguments(**named | _absolute(named))
    read = {name: given[name] for name in ("format", "split", "skip_bad")}
    if read["split"] is None and "train" in split_names(given["data"], format=read["format"]):
        read["split"] = "train"
    dataset = load(given["data"], **read)
    if _is_first():
        tell_skipped(dataset)
        if given["lint"]:
            tell_lint(dataset, **{name: given[name] for name in _LINTED})
    source = provenance(given["data"], **read, license=given["license"])
    with _progress(given) as show:
        return run(
            dataset,
            given["out"],
            arguments=arguments,
            source=source,
            fold_workers=given["fold_workers"],
            on_progress=show,
        )


def _absolute(named: dict[str, Any]) -> dict[str, str]:
    """The files and folders among the options by their whole paths: --from may be elsewhere."""
    from ranker.model.base import DEFAULT_BASE

    return {
        name: str(Path(named[name]).absolute())
        for name in ("base", "teacher", "synthetic")
        if named[name] not in (None, DEFAULT_BASE) and Path(named[name]).exists()
    }


def _repeated(context: typer.Context, given: dict[str, Any]) -> Any:
    """Train as an earlier training.json says."""
    from ranker.train import repeat

    others = [
        f"--{name.replace('_', '-')}"
        for name in given
        if name not in _WITH_FROM
        and getattr(context.get_parameter_source(name), "name", "") in _GIVEN
    ]
    if others:
        raise UsageError(
            f"--from takes every option from the report; leave out {', '.join(others)}"
        )
    with _progress(given) as show:
        return repeat(
            given["from_report"],
            given["out"],
            data=given["data"],
            on_progress=show,
        )


def _figures(report: dict[str, Any]) -> str:
    """A table of nDCG@10: on the held-out queries, or out of fold with the verdict."""
    held, gate = report["held_out"], report["gate"]
    if not report["cv"]:
        rows = [[name, f"{held[name]:.4f}"] for name in ("bm25", "cross", "blend")]
        return table([f"held out ({held['queries']} queries)", "nDCG@10"], rows)
    against = {row["profile"]: row for row in gate["comparisons"] if row["baseline"] == "bm25"}
    rows = []
    for name in (name for name in _ORDER if name in gate["runs"]):
        row, cells = against.get(name), ["", "", ""]
        if row:
            low, high = row["interval"]
            gain = f"{row['mean_difference']:+.4f}"
            cells = [gain, f"[{low:+.4f}, {high:+.4f}]", f"{row['p_holm']:.4f}"]
        rows.append([name, f"{gate['runs'][name]['mean']:.4f}", *cells])
    headers = [f"out of fold ({gate['queries']} queries)", "nDCG@10", "- bm25", "95 %", "p (Holm)"]
    better = "better than BM25" if gate["verdict"] == "passed" else "not reliably better than BM25"
    return f"{table(headers, rows)}\nship gate: {gate['verdict']} ({better})"


@contextlib.contextmanager
def _progress(given: dict[str, Any]) -> Iterator[Any]:
    """What training tells its progress to; only the first of several processes shows it."""
    if not _is_first():
        yield lambda *_: None
        return
    with progress(quiet=given["as_json"]) as bars:
        yield _training_bar(bars)


def _training_bar(bars: Any) -> Any:
    """Draws the progress of stages and folds: loss, nDCG@10, time left."""
    tasks: dict[str, Any] = {}
    last: dict[str, dict[str, str]] = {}

    def show(stage: str, step: int, steps: int, loss: float | None, ndcg: float | None) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=steps, info="")
        said = last.setdefault(stage, {})
        if loss is not None:
            said["loss"] = f"loss {loss:.3f}"
        if ndcg is not None:
            said["ndcg"] = f"nDCG@10 {ndcg:.4f}"
            note(f"{stage} step {step}/{steps}: {' '.join(said.values())} (held-out queries)")
        bars.update(tasks[stage], completed=step, total=steps, info=" ".join(said.values()))

    return show
