"""The verb `verify`: four checks in one table; exit 1 with the first problem."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranker.cli.console import drawn, emit, note, progress
from ranker.cli.options import Json

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from ranker.verify import CheckResult, Progress

__all__ = ["verify"]

_STYLES = {"passed": "green", "incomplete": "yellow", "failed": "red", "not started": "dim"}
_TEXTS = "Texts"
_COMPARISON = "Comparison"


def verify(
    app: Annotated[
        Path,
        typer.Argument(
            help="Application package of `ranker package`, or the record of one model in an "
            "existing application."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Judged data to take queries and documents from; by default, texts that are hard "
            "to tokenize.",
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    pairs: Annotated[
        int,
        typer.Option(help="Number of query-document pairs to compare.", rich_help_panel=_TEXTS),
    ] = 200,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint or cross-encoder (folder or Hugging Face id) to compare with in "
            "torch; by default the one that the package was made from, if it is found.",
            rich_help_panel=_COMPARISON,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail if a part of a check has to be skipped.",
            rich_help_panel=_COMPARISON,
        ),
    ] = False,
    vespa_version: Annotated[
        str | None,
        typer.Option(
            "--vespa-version",
            "--vespa",
            help="Vespa release to check against; by default the one that ranker is tested with.",
            rich_help_panel=_COMPARISON,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a package with Vespa's own Java code.

    Four checks: the package is valid; token ids and scores are equal in torch, ONNX, the embedded
    engine and Vespa; Vespa reads what `feed` and `query` send. Without a JDK, the parts that need
    Vespa's code are skipped.
    """
    from ranker.verify import VESPA_VERSION
    from ranker.verify import verify as run

    version = vespa_version or VESPA_VERSION
    with progress(quiet=as_json) as bars:
        results = run(
            app,
            data=data,
            pairs=pairs,
            checkpoint=checkpoint,
            strict=strict,
            version=version,
            on_check=lambda result: note(f"{result.name}: {result.status}"),
            on_progress=_bars(bars),
        )
    reason = next((f"{r.name}: {r.problems[0]}" for r in results if r.problems), None)
    checks = [result.to_dict() for result in results]
    emit(
        {"vespa_version": version, "checks": checks, "error": reason},
        as_json=as_json,
        text="\n".join([_table(results), *_details(results)]),
    )
    if reason is not None:  # reported here, since --json prints one object
        note(f"ranker: error: {' '.join(reason.split())}")
        raise typer.Exit(1)


def _bars(bars: "Bars") -> "Progress":
    """Return a function that shows a bar for each task."""
    tasks: dict[str, TaskID] = {}

    def show(task: str, done: int, total: int) -> None:
        if task not in tasks:
            tasks[task] = bars.add_task(task, total=total, info="")
        bars.update(tasks[task], completed=done)

    return show


def _table(results: Sequence["CheckResult"]) -> str:
    """Draw a table with a row for each check, also for those that were not started."""
    from rich.table import Table
    from rich.text import Text

    from ranker.verify import CHECKS

    shown = Table("check", "result", "figures")
    for result in results:
        figures = [f"{n.replace('_', ' ')} {_number(v)}" for n, v in result.figures.items()]
        status = Text(result.status, _STYLES[result.status])
        shown.add_row(result.name, status, ", ".join(figures))
    started = {result.name.split(" ")[0] for result in results}
    for name in CHECKS:
        if name not in started:
            shown.add_row(name, Text("not started", _STYLES["not started"]), "")
    return drawn(shown)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _details(results: Sequence["CheckResult"]) -> list[str]:
    """List problems, warnings and skipped parts; the first difference in full comes last."""
    lines = [
        f"{result.name}: {kind}{line}"
        for kind, name in (("", "problems"), ("warning: ", "warnings"), ("skipped: ", "skipped"))
        for result in results
        for line in getattr(result, name)
    ]
    return [*lines, *(f"\n{result.difference}" for result in results if result.difference)]
