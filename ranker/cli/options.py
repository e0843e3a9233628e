"""Options and arguments that more than one verb has."""

from typing import TYPE_CHECKING, Annotated

import click
import typer

from ranker.cli.console import note

if TYPE_CHECKING:
    from ranker.dataset import Dataset

__all__ = ["Data", "DataFormat", "DataOrNone", "Format", "Json", "SkipBad", "report_skipped"]

_DATA = (
    "Judged data: a BEIR or TREC folder, a CSV/TSV/JSONL/parquet file with query, title and "
    "label, or an ir_datasets id."
)
Data = Annotated[str, typer.Argument(help=_DATA)]
DataOrNone = Annotated[str | None, typer.Argument(help=_DATA)]


class DataFormat(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A format of judged data; their names are looked up only for the help, to start fast.

    Args:
        *others: names of formats that only one verb reads.
    """

    name = "format"

    def __init__(self, *others: str) -> None:
        self._others = others

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the names of all formats."""
        from ranker.dataset.formats import format_names

        return " | ".join([*format_names(), *self._others])


Format = Annotated[
    str | None,
    typer.Option(
        click_type=DataFormat(),
        help="Format of the data; detected by default.",
        rich_help_panel="Data",
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Report malformed rows and continue.", rich_help_panel="Data"),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel="Output")
]


def report_skipped(dataset: "Dataset") -> None:
    """List the malformed rows that `--skip-bad` left out."""
    for line in dataset.skipped:
        note(f"skipped: {line}")
