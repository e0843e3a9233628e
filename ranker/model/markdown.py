"""Pieces of Markdown for model cards."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["escaped", "interval", "table"]


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; bars in cells are escaped."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
    )


def interval(ends: Sequence[float], form: str) -> str:
    """Return both ends of an interval in a number format."""
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def escaped(value: str) -> str:
    """Return a name on one line, escaped so that it cannot be read as markup."""
    return re.sub(r"([\\`*_<>\[\]#|])", r"\\\1", " ".join(value.split()))
