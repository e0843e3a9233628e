"""A model's calibration: its logit as a probability of relevance.

It is learned in training (`ranker.metrics.calibration`) and travels with the model to the rank
profiles, where it is the function `probability`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker.artifacts.profile import LOGIT

__all__ = ["PROBABILITY", "UNKNOWN", "Calibration", "calibration_of", "why_uncalibrated"]

PROBABILITY = "probability"
"""The function of a rank profile that gives the probability, and the summary feature."""
UNKNOWN = "it was made by a version of ranker without calibration"
"""The reason where nothing is recorded."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The probability that a reranked document is judged relevant, given its logit.

    It is `sigmoid(slope * logit + intercept)` (Platt 1999).  Unjudged documents count as not
    relevant.

    Attributes:
        slope: above 0, so that a higher logit is a higher probability.
        intercept: the log-odds at logit 0.

    Raises:
        ValueError: a number is not finite, or the slope is not above 0.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        for name in ("slope", "intercept"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"the calibration's {name} must be a number, got {value!r}")
        if self.slope <= 0:
            raise ValueError(f"the calibration's slope must be above 0, got {self.slope!r}")

    @property
    def expression(self) -> str:
        """The probability as a ranking expression."""
        sign = "-" if self.intercept < 0 else "+"
        return f"sigmoid({self.slope!r} * {LOGIT} {sign} {abs(self.intercept)!r})"

    def probability(self, logit: float) -> float:
        """Return the probability, as the expression gives it."""
        odds = self.slope * logit + self.intercept
        if odds >= 0:  # each form where its exponential cannot overflow
            return 1 / (1 + math.exp(-odds))
        return math.exp(odds) / (1 + math.exp(odds))


def calibration_of(report: Mapping[str, Any]) -> Calibration | None:
    """Return the calibration in a training report or a bundle's; None if it has none.

    Raises:
        ValueError: it is not one.
    """
    values = report.get("calibration")
    if values is None:
        return None
    if not isinstance(values, Mapping) or not {"slope", "intercept"} <= values.keys():
        raise ValueError(f"expected a calibration with slope and intercept, got {values!r}")
    return Calibration(slope=values["slope"], intercept=values["intercept"])


def why_uncalibrated(report: Mapping[str, Any]) -> str:
    """Return why a training report or a bundle's has no calibration."""
    return str(report.get("uncalibrated") or UNKNOWN)
