"""How the page writes numbers."""

__all__ = ["interval", "milliseconds", "number", "p_value", "queries", "signed"]


def number(value: float) -> str:
    """Write a measure with three decimals."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """Write a difference with its sign, a typographic minus; zero has none."""
    text = f"{abs(value):.3f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def interval(ends: tuple[float, float] | list[float]) -> str:
    """Write a confidence interval of a difference."""
    return f"{signed(ends[0])}…{signed(ends[1])}"


def p_value(value: float) -> str:
    """Write a p-value, no finer than ten thousand resamples allow."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def milliseconds(value: float) -> str:
    """Write a latency with about three significant digits."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def queries(count: int) -> str:
    """Write a number of queries."""
    return "1 query" if count == 1 else f"{count} queries"
