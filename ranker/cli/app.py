"""The program `ranker`: its verbs, the options that all of them share, and its exit status."""

import inspect
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ranker import __version__
from ranker.cli import build, data, serve, train
from ranker.cli.config import read_config
from ranker.cli.console import note, set_up_logging
from ranker.errors import RankerError

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    help="From judged queries to a deployed, evaluated Vespa cross-encoder.",
    epilog="Start: ranker train DATA --out checkpoint · ranker export checkpoint --out bundle · "
    "ranker package bundle --out app · ranker serve app --data db",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    suggest_commands=False,  # click suggests them
    context_settings={"help_option_names": ["-h", "--help"]},
)
data.register(app)
train.register(app)
build.register(app)
serve.register(app)
for verb in app.registered_commands:
    # Rich would keep the line ends of a docstring, which are those of 100 columns.
    paragraphs = inspect.cleandoc(verb.callback.__doc__ or "").split("\n\n")
    verb.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with default options: a table for each verb.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every step to stderr.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """From judged queries to a deployed, evaluated Vespa cross-encoder."""
    set_up_logging(verbose=verbose)
    if config is not None:
        command: Any = context.command  # typer's own group
        context.default_map = read_config(config, command.commands)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status.

    The status is 0 (success), 1 (failure), 2 (usage error), 130 (Ctrl-C) or 143 (SIGTERM).  An
    error is one line on stderr and, with --json, an object with `error` on stdout.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # as a program
        signal.signal(signal.SIGTERM, _terminated)
    command = typer.main.get_command(app)
    try:
        code = command.main(args=given or ["--help"], prog_name="ranker", standalone_mode=False)
        if not given:
            return 2
        if code == INTERRUPTED:  # typer turns KeyboardInterrupt into a status
            raise KeyboardInterrupt
        return int(code or 0)
    except RankerError as error:
        return _fail(str(error), error.exit_code, given)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted; rerun the same command to resume", INTERRUPTED, given)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}", 1, given)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # one of click
            context = getattr(error, "ctx", None)
            program = context.command_path if context else "ranker"
            return _fail(
                f"{error.format_message()} (try: {program} --help)", error.exit_code, given
            )
        if os.environ.get("RANKER_DEBUG"):
            raise
        return _fail(
            f"unexpected {type(error).__name__}: {error}; this is a bug in ranker; "
            "set RANKER_DEBUG=1 for a traceback",
            1,
            given,
        )


def _terminated(number: int, frame: object) -> None:
    """Exit at once; half-written files are removed on the way out."""
    raise SystemExit(128 + number)


def _fail(message: str, code: int, given: list[str]) -> int:
    line = " ".join(message.split())
    if "--json" in given:
        sys.stdout.write(json.dumps({"error": line}) + "\n")
    note(f"ranker: error: {line}")
    return code
