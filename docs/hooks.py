"""Puts the help of every verb on the page `cli.md` when the documentation is built."""

from typing import Any

import typer
from typer.testing import CliRunner

from ranker.cli.app import app


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Append a section for each verb to the page of the command line."""
    if page.file.src_uri != "cli.md":
        return markdown
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return markdown + "".join(f"\n## {verb}\n\n```text\n{help_of(verb)}\n```\n" for verb in verbs)


def help_of(verb: str) -> str:
    """Return what `ranker VERB --help` prints, 100 columns wide and without colours."""
    plain = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    shown = CliRunner().invoke(app, [verb, "--help"], prog_name="ranker", env=plain)
    return "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())
