"""The verb `verify`: four checks, one table, exit 1 with the first reason."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranker.cli.console import drawn, emit, note, progress
from ranker.cli.options import Json

if TYPE_CHECKING:
    from ranker.verify import CheckResult

__all__ = ["verify"]

_STYLES = {"passed": "green", "incomplete": "yellow", "failed": "red", "not begun": "dim"}


def verify(
    app: Annotated[
        Path,
        typer.Argument(
            help="Application package of `ranker package`, or the record of one model in it."
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Judged data to take texts from; nasty ones if absent.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Query-document pairs to compare.")] = 200,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Compare with this checkpoint or cross-encoder (folder or Hugging Face id) in "
            "torch; the package's own if found."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="What could not be checked is a failure.")
    ] = False,
    vespa_version: Annotated[
        str | None,
        typer.Option("--vespa-version", "--vespa", help="Vespa release to check against."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a package with Vespa's own Java code.

    Is it valid; are token ids and scores equal in torch, ONNX, the embedded engine and Vespa; does
    Vespa read what `feed` and `query` send. Without a JDK the rest is checked.
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
    if reason is not None:  # said here, as --json has one object on standard output
        note(f"ranker: error: {' '.join(reason.split())}")
        raise typer.Exit(1)


def _bars(bars: Any) -> Any:
    """A bar for everything that takes long."""
    tasks: dict[str, Any] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total, info="")
        bars.update(tasks[what], completed=done)

    return show


def _table(results: Sequence["CheckResult"]) -> str:
    """One row a check, those that were not begun too."""
    from rich.table import Table
    from rich.text import Text

    from ranker.verify import CHECKS

    shown = Table("check", "result", "figures")
    for result in results:
        figures = [f"{n.replace('_', ' ')} {_number(v)}" for n, v in result.figures.items()]
        status = Text(result.status, _STYLES[result.status])
        shown.add_row(result.name, status, ", ".join(figures))
    begun = {result.name.split(" ")[0] for result in results}
    for name in CHECKS:
        if name not in begun:
            shown.add_row(name, Text("not begun", _STYLES["not begun"]), "")
    return drawn(shown)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _details(results: Sequence["CheckResult"]) -> list[str]:
    """What is wrong, what may surprise, what was left out; the first difference last."""
    lines = [
        f"{result.name}: {kind}{line}"
        for kind, name in (("", "problems"), ("warning: ", "warnings"), ("skipped: ", "skipped"))
        for result in results
        for line in getattr(result, name)
    ]
    return [*lines, *(f"\n{result.difference}" for result in results if result.difference)]
