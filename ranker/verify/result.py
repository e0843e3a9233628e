"""The result of a check."""

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
        name: `package`, `parity`, `feed` or `queries`; if the application has several models,
            followed by the model's name in brackets.
        problems: what is wrong, one line each; none if the check passed.
        warnings: what is right but may surprise, one line each.
        skipped: parts that could not be checked, with the reason, one line each.
        figures: counts and measurements by name.
        difference: the first difference in full, several lines, or None.
    """

    name: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    difference: str | None = None

    @property
    def status(self) -> Status:
        """The outcome; `incomplete` if nothing is wrong, but something was skipped."""
        if self.problems:
            return "failed"
        return "incomplete" if self.skipped else "passed"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which has no number for NaN and infinity."""
        return {
            "name": self.name,
            "status": self.status,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "skipped": list(self.skipped),
            "figures": {
                name: value if math.isfinite(value) else None
                for name, value in self.figures.items()
            },
            "difference": self.difference,
        }


def first_of(problems: Sequence[str]) -> tuple[str, ...]:
    """Return the first problems, and the number of further ones."""
    if len(problems) <= MOST_LINES:
        return tuple(problems)
    return (*problems[:MOST_LINES], f"and {len(problems) - MOST_LINES} more")
