"""The verb that checks judged data: lint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranker.cli.console import bar, drawn, emit, note, save_options
from ranker.cli.options import Data, Format, Json

if TYPE_CHECKING:
    from ranker.contract.encode import Encoder
    from ranker.dataset import Dataset
    from ranker.lint import LintReport

__all__ = ["register", "report_lint"]

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "dim"}


def register(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command(epilog="Example: ranker lint data/scifact --out lint.html")(lint)


def lint(
    context: typer.Context,
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            help="HTML page to write; a JSON file of the same name is written next to it.",
            rich_help_panel="Output",
        ),
    ] = None,
    format: Format = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split whose judgements are checked; all of them by default.",
            rich_help_panel="Data",
        ),
    ] = None,
    min_grade: Annotated[
        int, typer.Option(help="Minimum grade of a positive.", rich_help_panel="Data")
    ] = 1,
    base: Annotated[
        str,
        typer.Option(
            help="Base model whose tokenizer counts the tokens: a folder or a Hugging Face id.",
            rich_help_panel="Model",
        ),
    ] = "all-MiniLM-L6-v2",
    query_slots: Annotated[
        int,
        typer.Option(
            help="Tokens of a query that the model sees, including CLS and SEP.",
            rich_help_panel="Model",
        ),
    ] = 32,
    document_slots: Annotated[
        int,
        typer.Option(
            help="Tokens of a document that the model sees, including SEP.",
            rich_help_panel="Model",
        ),
    ] = 96,
    examples: Annotated[
        int,
        typer.Option(help="Maximum number of examples of a finding.", min=0),
    ] = 3,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Skip slow checks on more than 20,000 documents."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Treat every warning as an error.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check judged data for problems, with examples and advice.

    Errors stop training, and lint then exits with status 1; warnings skew metrics or waste
    training; notes are informational. No trained model is needed.
    """
    from ranker.lint import lint as run
    from ranker.lint import read_collection
    from ranker.lint.page import page
    from ranker.report.shell import require_page_name

    if out is not None:
        require_page_name(out)
    encoder, reason = _encoder(base, query_slots, document_slots)
    collection = read_collection(data, format=format, split=split)
    with bar("linting", quiet=as_json) as show:
        report = run(
            collection,
            min_grade=min_grade,
            encoder=encoder,
            no_encoder=reason,
            examples=examples,
            quick=quick,
            on_check=lambda about, done, total: show(done, total, about),
        )
    report = report.strict() if strict else report
    if out is not None:
        page(report, out)
        save_options("lint", context.params, out)
    emit(
        {**report.to_dict(), "page": None if out is None else str(out)},
        as_json=as_json,
        text="" if as_json else drawn(*_printed(report, out)),
    )
    if report.of("error"):
        raise typer.Exit(1)


def report_lint(
    dataset: "Dataset", *, data: str, format: str | None, min_grade: int, **slots: Any
) -> None:
    """Report the problems of data that will be trained on to stderr, in a few lines.

    Args:
        dataset: as loaded.
        data: path or id that the user gave.
        format: format that the user gave.
        min_grade: minimum grade of a positive.
        slots: base, query_slots and document_slots of the training, as `_encoder` takes them.
    """
    from ranker.lint import collection_of
    from ranker.lint import lint as run

    encoder, reason = _encoder(**slots)
    collection = collection_of(dataset, data=data, format=format)
    report = run(collection, min_grade=min_grade, encoder=encoder, no_encoder=reason, quick=True)
    for line in report.summary():
        note(f"lint: {line}")
    if report.findings:
        note(f"lint: {report.counted()}; for examples and advice, run: ranker lint {data}")


def _encoder(base: str, query_slots: int, document_slots: int) -> tuple["Encoder | None", str]:
    """Return the encoder of a base model, or None and the reason."""
    from ranker.contract.encode import Encoder
    from ranker.errors import MissingExtra
    from ranker.model.base import open_base

    try:
        opened = open_base(base, weights=False)
    except MissingExtra as error:
        return None, str(error)
    spec = opened.spec(query_slots=query_slots, document_slots=document_slots)
    return Encoder(spec, opened.tokenizer_json), ""


def _printed(report: "LintReport", out: Path | None) -> list[Any]:
    """Return what the terminal shows: a row for every finding, and their number."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    data = report.data
    split = f", {data['split']}" if data["split"] else ""
    head = (
        f"{data['name']}{split}: {data['documents']:,} documents, {data['queries']:,} judged "
        f"queries, {data['judgements']:,} judgements"
    )
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, leading=1)
    table.add_column("severity", no_wrap=True)
    table.add_column("finding, why it matters, what to do, examples", overflow="fold")
    for finding in report.findings:
        cell = Text.assemble((finding.title, "bold"), f" [{finding.id}]\n", finding.kind.why)
        cell.append(f"\n→ {finding.kind.advice}")
        for example in finding.examples:
            ids = f"{' '.join(example.ids)}: " if example.ids else ""
            place = f" ({example.place})" if example.place else ""
            cell.append(f"\n· {ids}{example.text}{place}", "dim")
        table.add_row(Text(finding.severity, STYLES[finding.severity]), cell)
    last = ["", f"{report.counted()}; {len(report.clean)} more checked for and not found"]
    last += [f"skipped: {check.check} ({check.reason})" for check in report.skipped]
    last += [f"page: {out}"] if out is not None else []
    return [Text(head), "", *([table] if report.findings else []), Text("\n".join(last))]
