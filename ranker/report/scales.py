"""Values to positions on an axis, and round numbers to mark there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Linear", "Log", "around"]


@dataclass(frozen=True)
class Linear:
    """A linear axis.

    Attributes:
        low, high: ends in values.
        start, end: ends in the picture; `start` may be the larger one.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value."""
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """About `count` round values inside the axis, with their labels."""
        step = _round_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        decimals = len(f"{step:.12f}".rstrip("0").partition(".")[2])
        return [
            (at * step, f"{at * step:.{decimals}f}".replace("-", "−"))
            for at in range(first, last + 1)
        ]


@dataclass(frozen=True)
class Log:
    """A logarithmic axis over values above 0; attributes as in `Linear`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value; values at or below the lower end lie there."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """1, 2 and 5 times the powers of ten inside the axis; powers alone on a long axis."""
        decades = math.log10(self.high / self.low)
        digits = (1, 2, 5) if decades <= 3 else (1,)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [digit * 10.0**power for power in powers for digit in digits]
        return [(value, f"{value:g}") for value in values if self.low <= value <= self.high]


def around(values: Sequence[float], *, share: float = 0.05) -> tuple[float, float]:
    """Ends of an axis that holds all values with a little room; never of no width."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def _round_step(step: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= step * (1 - 1e-9))
