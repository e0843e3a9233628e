"""Verbs that look at judged data: lint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranker.cli.console import bar, drawn, emit, note, save_options
from ranker.cli.options import Data, Format, Json

if TYPE_CHECKING:
    from ranker.contract.encode import Encoder
    from ranker.dataset import Dataset
    from ranker.lint import LintReport

__all__ = ["register", "tell_lint"]

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "dim"}


def register(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command(epilog="Example: ranker lint data/scifact --out lint.html")(lint)


def lint(
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="HTML page to write, with JSON beside it.")
    ] = None,
    format: Format = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the judgements; all together if absent.")
    ] = None,
    min_grade: Annotated[int, typer.Option(help="Minimum grade of a positive.")] = 1,
    base: Annotated[
        str, typer.Option(help="Base model whose tokens count: a folder or Hugging Face id.")
    ] = "all-MiniLM-L6-v2",
    query_slots: Annotated[int, typer.Option(help="Slots of the query, CLS, SEP included.")] = 32,
    document_slots: Annotated[int, typer.Option(help="Slots of the document, SEP included.")] = 96,
    examples: Annotated[int, typer.Option(help="Most examples of a finding.", min=0)] = 3,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Leave out what is slow above 20,000 documents."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    as_json: Json = False,
) -> None:
    """Look for what makes judged data worth less than it seems, with examples and what to do.

    Errors stop training (exit status 1); warnings bend figures or waste learning; notes are to
    know. Needs no model to be trained before.
    """
    from ranker.lint import lint as run
    from ranker.lint import read_collection
    from ranker.lint.page import page
    from ranker.report.shell import require_page_name

    given = {name: value for name, value in locals().items() if not callable(value)}
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
        save_options("lint", given, out)
    emit(
        {**report.to_dict(), "page": None if out is None else str(out)},
        as_json=as_json,
        text="" if as_json else drawn(*_told(report, out)),
    )
    if report.of("error"):
        raise typer.Exit(1)


def tell_lint(
    dataset: "Dataset", *, data: str, format: str | None, min_grade: int, **slots: Any
) -> None:
    """Say on stderr what is wrong with data that will be trained on, in a few lines.

    Args:
        dataset: as loaded.
        data: what the user called it.
        format: of `data`.
        min_grade: lowest grade of an answer.
        slots: base, query_slots and document_slots of the training.
    """
    from ranker.lint import collection_of
    from ranker.lint import lint as run

    encoder, reason = _encoder(**slots)
    collection = collection_of(dataset, data=data, format=format)
    report = run(collection, min_grade=min_grade, encoder=encoder, no_encoder=reason, quick=True)
    for line in report.summary():
        note(f"lint: {line}")
    if report.findings:
        note(f"lint: {report.counted()}; for examples and what to do: ranker lint {data}")


def _encoder(base: str, query_slots: int, document_slots: int) -> tuple["Encoder | None", str]:
    """Texts to tokens of a base model, or why that cannot be."""
    from ranker.contract.encode import Encoder
    from ranker.errors import MissingExtra
    from ranker.model.base import open_base

    try:
        opened = open_base(base, weights=False)
    except MissingExtra as error:
        return None, str(error)
    spec = opened.spec(query_slots=query_slots, document_slots=document_slots)
    return Encoder(spec, opened.tokenizer_json), ""


def _told(report: "LintReport", out: Path | None) -> list[Any]:
    """What the terminal shows: a row for every finding, and a last line that counts them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    data = report.data
    split = f", {data['split']}" if data["split"] else ""
    head = (
        f"{data['name']}{split}: {data['documents']:,} documents, {data['queries']:,} judged "
        f"queries, {data['judgements']:,} judgements"
    )
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, leading=1)
    shown.add_column("severity", no_wrap=True)
    shown.add_column("finding, why it matters, what to do, examples", overflow="fold")
    for finding in report.findings:
        cell = Text.assemble((finding.title, "bold"), f" [{finding.id}]\n", finding.kind.why)
        cell.append(f"\n→ {finding.kind.advice}")
        for example in finding.examples:
            ids = f"{' '.join(example.ids)}: " if example.ids else ""
            place = f" ({example.place})" if example.place else ""
            cell.append(f"\n· {ids}{example.text}{place}", "dim")
        shown.add_row(Text(finding.severity, STYLES[finding.severity]), cell)
    last = ["", f"{report.counted()}; {len(report.clean)} more looked for and not found"]
    last += [f"not looked for: {one.check} ({one.reason})" for one in report.skipped]
    last += [f"page: {out}"] if out is not None else []
    return [Text(head), "", *([shown] if report.findings else []), Text("\n".join(last))]
