"""What a person sees: progress and notes on stderr, results on stdout."""

import contextlib
import io
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.files import write_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, Task, TaskID

__all__ = ["bar", "drawn", "emit", "note", "progress", "save_options", "set_up_logging", "table"]


LINE_SECONDS = 60.0
"""Seconds between two lines of progress where no bar can be drawn, such as in a log."""


def emit(result: dict[str, Any], *, as_json: bool, text: str) -> None:
    """Print the result of a verb: JSON on one line for machines, or the text for people."""
    out = json.dumps(result, ensure_ascii=False) if as_json else text
    # Half a surrogate pair, perhaps in an id, is written as JSON writes it.
    sys.stdout.write(out.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(headers: list[str], rows: list[list[str]]) -> str:
    """Return a plain table with aligned columns, numbers to the right."""
    cells = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(map(_is_number, column[1:])) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def drawn(*renderables: "RenderableType") -> str:
    """Return what rich draws, as text: in colour on a terminal, plain in a pipe or a file."""
    from rich.console import Console

    on_terminal = sys.stdout.isatty()
    console = Console(
        file=io.StringIO(),
        force_terminal=on_terminal,
        width=min(shutil.get_terminal_size((100, 24)).columns, 120) if on_terminal else 100,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(*renderables, sep="\n")
    lines: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines.splitlines())


def _is_number(cell: str) -> bool:
    return cell.replace(".", "").replace("-", "").isdigit()


@contextlib.contextmanager
def progress(*, quiet: bool = False) -> Iterator["Progress"]:
    """Show rich progress bars on stderr until the block ends; without a terminal, lines."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, quiet=quiet)

    class Shown(Progress):
        line_at = time.monotonic()

        def update(
            self, task_id: "TaskID", **changes: Any
        ) -> None:  # as Progress.update takes them
            super().update(task_id, **changes)
            if self.disable and not quiet and time.monotonic() - self.line_at >= LINE_SECONDS:
                self.line_at = time.monotonic()
                note(_line(self.tasks[self.task_ids.index(task_id)]))

    with Shown(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        yield bars


def _line(task: "Task") -> str:
    total = "" if task.total is None else f"/{task.total:.0f}"
    return f"{task.description} {task.completed:.0f}{total} {task.fields['info']}".strip()


@contextlib.contextmanager
def bar(what: str, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show one bar of `progress`; yield a function of the work done, the total and a word."""
    with progress(quiet=quiet) as bars:
        task = bars.add_task(what, total=None, info="")

        def show(done: int, total: int | None = None, info: str = "") -> None:
            bars.update(task, completed=done, total=total, info=info)

        yield show


def set_up_logging(*, verbose: bool) -> None:
    """Log to stderr: warnings and, if verbose, all records of ranker."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if handler.name != "ranker"]
    handler = logging.StreamHandler(sys.stderr)
    handler.name = "ranker"
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.setLevel(logging.DEBUG if verbose else logging.WARNING)  # also those of libraries
    root.addHandler(handler)
    if verbose:
        logging.getLogger("ranker").setLevel(logging.DEBUG)


def save_options(verb: str, options: dict[str, Any], target: Path) -> None:
    """Write the resolved options of a verb next to its result, as a file for `--config`."""
    import tomli_w

    plain = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if value is not None and name not in {"as_json"}
    }
    path = target / f"{verb}.toml" if target.is_dir() else target.with_name(f"{target.name}.toml")
    write_text(path, tomli_w.dumps({verb: _plain(plain)}))


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
