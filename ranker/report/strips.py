"""Dots on a strip: the differences of every query, the latency of every search.

Inline SVG whose colours are the page's style classes, so that they follow light and dark.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ranker.report.scales import Linear, Log
from ranker.report.svg import element, picture

__all__ = ["Dot", "Mark", "Strip", "strips"]

WIDTH = 400
MARGIN = 8
LABEL = 22
BAND = 48
MIDDLE = 17
ROOM = 28
FOOT = 34
RADIUS = 2.2
MOST_DOTS = 400


@dataclass(frozen=True)
class Dot:
    """A value, the style class of its dot, and what a pointer over it says, if anything."""

    value: float
    style: str
    tip: str = ""


@dataclass(frozen=True)
class Mark:
    """A line across the band at a value, with a label above it."""

    value: float
    label: str


@dataclass(frozen=True)
class Strip:
    """One row of a picture.

    Attributes:
        label: what it shows.
        note: at the right of the label.
        dots: the values.
        marks: lines across the band.
        interval: lower end, mean and upper end of a confidence interval, if there is one.
    """

    label: str
    note: str
    dots: Sequence[Dot]
    marks: Sequence[Mark] = field(default=())
    interval: tuple[float, float, float] | None = None


def strips(rows: Sequence[Strip], scale: Linear | Log, *, ident: str, title: str, axis: str) -> str:
    """The picture of some strips over one axis.

    Args:
        rows: from top to bottom.
        scale: from `MARGIN` to `WIDTH - MARGIN`.
        ident: prefix of the ids in the picture, unique in the page.
        title: what the picture shows, read out in its place.
        axis: what the axis measures.
    """
    row_height = LABEL + BAND
    height = row_height * len(rows) + FOOT
    parts = _axis(scale, height=height, axis=axis)
    for at, row in enumerate(rows):
        parts += _strip(row, scale, top=row_height * at)
    text = "; ".join(f"{row.label}: {row.note}" for row in rows)
    return picture(parts, width=WIDTH, height=height, ident=ident, title=title, text=text)


def _axis(scale: Linear | Log, *, height: float, axis: str) -> list[str]:
    ticks = scale.ticks() if isinstance(scale, Log) else scale.ticks(5)
    bottom = height - FOOT
    parts = [_tick(axis, x=WIDTH / 2, y=height - 5, anchor="middle")]
    for value, label in ticks:
        x = scale(value)
        style = "zero" if isinstance(scale, Linear) and abs(value) < 1e-12 else "grid"
        parts.append(element("line", class_=style, x1=x, x2=x, y1=LABEL - 4, y2=bottom))
        inside = min(max(x, MARGIN + 6), WIDTH - MARGIN - 6)
        parts.append(_tick(label, x=inside, y=bottom + 13, anchor="middle"))
    return parts


def _strip(row: Strip, scale: Linear | Log, *, top: float) -> list[str]:
    parts = [
        element("text", text=row.label, class_="label", x=MARGIN, y=top + 13),
        _tick(row.note, x=WIDTH - MARGIN, y=top + 13, anchor="end"),
    ]
    parts += _dots(row.dots, scale, middle=top + LABEL + MIDDLE)
    for mark in row.marks:
        parts += _mark(mark, scale, top=top + LABEL)
    if row.interval is not None:
        parts += _interval(row.interval, scale, y=top + LABEL + BAND - 8)
    return parts


def _dots(dots: Sequence[Dot], scale: Linear | Log, *, middle: float) -> list[str]:
    """Dots at their values; those that would cover each other are piled up around the middle."""
    columns: dict[int, list[tuple[float, Dot]]] = defaultdict(list)
    for dot in _thinned(dots):
        x = scale(dot.value)
        columns[round(x / (2 * RADIUS))].append((x, dot))
    drawn = []
    for column in columns.values():
        step = min(2 * RADIUS + 0.4, ROOM / len(column))
        for at, (x, dot) in enumerate(column):
            y = middle + (at - (len(column) - 1) / 2) * step
            tip = [element("title", text=dot.tip)] if dot.tip else []
            drawn.append(element("circle", *tip, class_=dot.style, cx=x, cy=y, r=RADIUS))
    return drawn


def _mark(mark: Mark, scale: Linear | Log, *, top: float) -> list[str]:
    x = scale(mark.value)
    return [
        element("line", class_="mark", x1=x, x2=x, y1=top + 2, y2=top + BAND - 13),
        _tick(mark.label, x=x, y=top + BAND - 3, anchor="middle"),
    ]


def _interval(ends: tuple[float, float, float], scale: Linear | Log, *, y: float) -> list[str]:
    low, mean, high = (scale(value) for value in ends)
    return [
        element("line", class_="ci", x1=low, x2=high, y1=y, y2=y),
        element("path", class_="mean", d=f"M{mean:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z"),
    ]


def _tick(text: str, *, x: float, y: float, anchor: str) -> str:
    return element("text", text=text, class_="tick", x=x, y=y, text_anchor=anchor)


def _thinned(dots: Sequence[Dot]) -> list[Dot]:
    """At most `MOST_DOTS` of the dots, evenly by value, the ends always among them."""
    ordered = sorted(dots, key=lambda dot: dot.value)
    if len(ordered) <= MOST_DOTS:
        return ordered
    step = (len(ordered) - 1) / (MOST_DOTS - 1)
    return [ordered[round(at * step)] for at in range(MOST_DOTS)]
