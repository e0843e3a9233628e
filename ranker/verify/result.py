"""What a check found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["CheckResult", "Status", "first_of"]

MOST_LINES = 20

Status = Literal["passed", "failed", "incomplete"]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        name: `package`, `parity`, `feed` or `queries`; with several models in one application
            the model's name behind it, in brackets.
        problems: what does not hold, one line each; none if the check passed.
        warnings: what holds but may surprise, one line each.
        skipped: parts that could not be checked, with the reason, one line each.
        figures: what was counted and measured, by name.
        difference: the first difference, some lines one above the other, or None.
    """

    name: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    difference: str | None = None

    @property
    def status(self) -> Status:
        """`incomplete`: nothing is wrong, but not all could be checked."""
        if self.problems:
            return "failed"
        return "incomplete" if self.skipped else "passed"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "status": self.status,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "skipped": list(self.skipped),
            "figures": {name: _finite(value) for name, value in self.figures.items()},
            "difference": self.difference,
        }


def _finite(value: float) -> float | None:
    """The number; None for what JSON has no number for."""
    return value if math.isfinite(value) else None


def first_of(problems: Sequence[str]) -> tuple[str, ...]:
    """The first problems, and how many more there are."""
    if len(problems) <= MOST_LINES:
        return tuple(problems)
    return (*problems[:MOST_LINES], f"and {len(problems) - MOST_LINES} more")
