"""The verb that trains a cross-encoder."""

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranker.cli.console import emit, note, progress, save_options, table
from ranker.cli.data import report_lint
from ranker.cli.options import DataOrNone, Format, Json, SkipBad, report_skipped
from ranker.errors import UsageError
from ranker.model.hub import DEFAULT_BASE
from ranker.train.arguments import TrainArguments

if TYPE_CHECKING:
    from rich.progress import Progress

    from ranker.train.loop import OnProgress

__all__ = ["register"]

Out = Annotated[Path, typer.Option(help="Folder to write the checkpoint to.")]
Reproduce = Annotated[
    Path | None,
    typer.Option(
        help="Repeat the training that wrote this training.json, with its options and data."
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="Split of the data to learn from; train by default, where there is one.",
        rich_help_panel="Data",
    ),
]
Lint = Annotated[
    bool,
    typer.Option(
        "--lint/--no-lint", help="Check the judgements for problems first.", rich_help_panel="Data"
    ),
]
License = Annotated[
    str, typer.Option(help="Licence of the data, for the model card.", rich_help_panel="Data")
]
FoldWorkers = Annotated[
    int,
    typer.Option(
        min=1,
        help="Folds to train at once, as far as memory allows; they share the cores.",
        rich_help_panel="Hardware",
    ),
]

_GIVEN = ("COMMANDLINE", "DEFAULT_MAP")
"""Where click has an option from that was named: the command, or the file of --config."""
_WITH_REPRODUCE = {"data", "out", "reproduce", "lint", "as_json"}
_LINTED = ("min_grade", "base", "query_slots", "document_slots")
_KEYS = (
    "held_out",
    "blend_weight",
    "recommended_profile",
    "gate",
    "calibration",
    "uncalibrated",
    "seconds",
)


def register(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command(epilog="Example: ranker train data/scifact --pretrain --cv 5 --out checkpoint")(
        _with_options_of_training(train)
    )


def _with_options_of_training(verb: Any) -> Any:
    """Give a function the options of `TrainArguments` in place of its `**options`.

    It is `Any` since `Callable` has no `__signature__` that could be set.
    """
    own = list(inspect.signature(verb, eval_str=True).parameters.values())
    made = [
        inspect.Parameter(
            argument.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=argument.default,
            annotation=Annotated[argument.type, _option(argument)],
        )
        for argument in fields(TrainArguments)
    ]
    shown = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    verb.__signature__ = inspect.Signature([*shown, *made])
    return verb


def _option(argument: "Field[Any]") -> Any:
    """Return the command line's option of a field of `TrainArguments`."""
    name, about = argument.name.replace("_", "-"), argument.metadata["option"]
    flag = f"--{name}/--no-{name}" if argument.type is bool else f"--{name}"
    return typer.Option(flag, help=about.help, rich_help_panel=about.panel)


def train(
    context: typer.Context,
    *,
    out: Out,
    data: DataOrNone = None,
    reproduce: Reproduce = None,
    format: Format = None,
    split: Split = None,
    skip_bad: SkipBad = False,
    lint: Lint = True,
    license: License = "unknown",
    fold_workers: FoldWorkers = 1,
    as_json: Json = False,
    **options: Any,  # the fields of TrainArguments
) -> None:
    """Fine-tune a cross-encoder on judged queries.

    A share of the queries is held out for early stopping on nDCG@10 and to learn the weight of
    the blend with BM25. With --cv every query is held out once, which shows whether the model is
    better than BM25. Rerun the same command to resume an interrupted training.

    On several GPUs, torchrun --standalone --nproc-per-node 4 -m ranker train ... divides every
    step among them; it matches a single-GPU step up to rounding and dropout noise.
    """
    if reproduce:
        checkpoint = _reproduced(context, reproduce, out, data=data, quiet=as_json)
    else:
        if data is None:
            raise UsageError(
                "Missing argument 'DATA': the judged data to learn from (or --reproduce)"
            )
        from ranker.dataset import default_split, load
        from ranker.model.provenance import DataProvenance
        from ranker.train import train as run

        arguments = TrainArguments(**options | _absolute(options))
        split = split or default_split(data, "train", format=format)
        dataset = load(data, format=format, split=split, skip_bad=skip_bad)
        if _is_first():
            report_skipped(dataset)
            if lint:
                slots = {name: options[name] for name in _LINTED}
                report_lint(dataset, data=data, format=format, **slots)
        source = DataProvenance.of(
            data, format=format, split=split, skip_bad=skip_bad, license=license
        )
        with _progress(arguments, quiet=as_json) as show:
            checkpoint = run(
                dataset,
                out,
                arguments=arguments,
                source=source,
                fold_workers=fold_workers,
                on_progress=show,
            )
    if _is_first():
        _tell(checkpoint.training, out, as_json=as_json)


def _reproduced(
    context: typer.Context, report: Path, out: Path, *, data: str | None, quiet: bool
) -> Any:
    """Train as an earlier training.json says, which takes every option from it."""
    from ranker.train import read_training, reproduce

    others = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in _WITH_REPRODUCE
        and getattr(context.get_parameter_source(str(parameter.name)), "name", "") in _GIVEN
    ]
    if others:
        raise UsageError(
            f"--reproduce takes every option from the report; leave out {', '.join(others)}"
        )
    _, arguments, _ = read_training(report)
    with _progress(arguments, quiet=quiet) as show:
        return reproduce(report, out, data=data, on_progress=show)


def _absolute(options: dict[str, Any]) -> dict[str, str]:
    """Return the files and folders among the options as whole paths, for --reproduce elsewhere."""
    return {
        name: str(Path(options[name]).absolute())
        for name in ("base", "teacher", "synthetic")
        if options[name] not in (None, DEFAULT_BASE) and Path(options[name]).exists()
    }


def _is_first() -> bool:
    """Return whether this process is the one of several that writes to the terminal."""
    from ranker.train import is_first

    return is_first()


def _tell(report: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Save the options next to the checkpoint and print its figures."""
    from ranker.train.tasks import TRAININGS

    options = {**report["arguments"], **report["source"], "fold_workers": report["fold_workers"]}
    options.pop("files")
    save_options("train", {**options, "out": out}, out)
    headers, rows, line = TRAININGS[report["arguments"]["task"]].summary(report)
    unused = [
        f"stage {stage['stage']}: no step was better than the start, so its weights were kept"
        for stage in report["stages"]
        if stage["steps"] and not stage["best_step"]
    ]
    emit(
        {"checkpoint": str(out), **{key: report[key] for key in _KEYS if key in report}},
        as_json=as_json,
        text="\n".join([table(headers, rows), *unused, line, f"checkpoint: {out}"]),
    )


@contextlib.contextmanager
def _progress(arguments: TrainArguments, *, quiet: bool) -> Iterator["OnProgress"]:
    """Show the progress of training; only the first of several processes does."""
    from ranker.train.tasks import TRAININGS

    if not _is_first():
        yield lambda *_: None
        return
    with progress(quiet=quiet) as bars:
        yield _training_bar(bars, TRAININGS[arguments.task].MEASURE.name)


def _training_bar(bars: "Progress", measure: str) -> "OnProgress":
    """Draw the progress of stages and folds: loss, time left and a measure.

    That is the task's, except where a stage has held-out groups of the corpus.
    """
    from ranker.train.reranking import MRR

    tasks: dict[str, Any] = {}
    last: dict[str, dict[str, str]] = {}

    def show(stage: str, step: int, steps: int, loss: float | None, value: float | None) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=steps, info="")
        said = last.setdefault(stage, {})
        if loss is not None:
            said["loss"] = f"loss {loss:.3f}"
        if value is not None:
            name, of = (MRR, "documents") if stage == "pretrain" else (measure, "queries")
            said["measure"] = f"{name} {value:.4f}"
            note(f"{stage} step {step}/{steps}: {' '.join(said.values())} (held-out {of})")
        bars.update(tasks[stage], completed=step, total=steps, info=" ".join(said.values()))

    return show
