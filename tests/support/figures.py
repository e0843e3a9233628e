"""Figures that tests found, shown at the end of the run: pairs compared, calls made.

    figures.record("front door", "120 compared, 110 equal, 10 different on purpose")

`conftest.pytest_terminal_summary` prints them, one line each, under the heading "figures".
"""

__all__ = ["FIGURES", "record"]

FIGURES: list[tuple[str, str]] = []
"""Name and text of each figure, in the order in which they were found."""


def record(name: str, text: str) -> None:
    """Show a figure at the end of the run."""
    FIGURES.append((name, text))
