"""Options and arguments that more than one verb has."""

from typing import Annotated, Any

import typer

from ranker.cli.console import note

__all__ = ["Data", "DataOrNone", "Format", "Json", "SkipBad", "tell_skipped"]

_DATA = (
    "Judged data: a BEIR or TREC folder, a CSV/TSV/JSONL/parquet file with query, title and "
    "label, or an ir_datasets id."
)
Data = Annotated[str, typer.Argument(help=_DATA)]
DataOrNone = Annotated[str | None, typer.Argument(help=_DATA)]
Format = Annotated[
    str | None,
    typer.Option(help="beir, trec, csv, tsv, jsonl, parquet or ir_datasets; detected if absent."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count and list bad rows, go on.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def tell_skipped(dataset: Any) -> None:
    """List the bad rows that `--skip-bad` left out."""
    for line in dataset.skipped:
        note(f"skipped: {line}")
