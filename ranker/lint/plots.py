"""The pictures of the linter's page: grades, token lengths, holes by depth.  Inline SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

from ranker.lint.inspection import percent
from ranker.report.scales import Linear
from ranker.report.svg import element, picture

__all__ = ["grades_plot", "holes_plot", "tokens_plot"]

WIDTH = 400
LEFT = 46
RIGHT = WIDTH - 12
TOP = 20
BOTTOM = 150
HEIGHT = 188
MARKED = (10, 20, 100)


def grades_plot(grades: Mapping[str, int], *, relevant: int, ident: str) -> str:
    """Judgements by grade, the grades evenly apart; those from `relevant` on in colour."""
    most = max(grades.values(), default=1)
    scale = Linear(0, most, BOTTOM, TOP + 14)
    step = (RIGHT - LEFT) / max(len(grades), 1)
    width = min(0.7 * step, 48)
    parts = [element("line", class_="zero", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM)]
    for at, (grade, count) in enumerate(grades.items()):
        middle = LEFT + (at + 0.5) * step
        top = scale(count)
        style = "win" if int(grade) >= relevant else "tie"
        parts.append(_bar(middle - width / 2, top, width, style))
        parts.append(_tick(f"{count:,}", x=middle, y=top - 4, anchor="middle"))
        parts.append(_tick(grade, x=middle, y=BOTTOM + 14, anchor="middle"))
    parts.append(_tick("grade", x=(LEFT + RIGHT) / 2, y=HEIGHT - 6, anchor="middle"))
    text = "; ".join(f"grade {grade}: {count:,}" for grade, count in grades.items())
    return _picture(parts, ident, "Judgements by grade", text)


def tokens_plot(histogram: Mapping[str, Any], *, ident: str, what: str) -> str:
    """Texts by number of tokens, with the limit of the slots."""
    counts: Sequence[int] = histogram["counts"]
    width, slots = histogram["width"], histogram["slots"]
    tokens = Linear(0, width * len(counts), LEFT, RIGHT)
    scale = Linear(0, max(*counts, 1), BOTTOM, TOP + 10)
    parts = _levels(scale)
    for at, count in enumerate(counts):
        if count:
            left, right = tokens(at * width), tokens((at + 1) * width)
            style = "win" if at * width < slots else "loss"
            parts.append(_bar(left + 0.5, scale(count), right - left - 1, style))
    limit = tokens(slots + 0.5)
    parts.append(element("line", class_="mark", x1=limit, x2=limit, y1=TOP, y2=BOTTOM))
    near_end = limit > (LEFT + RIGHT) / 2
    parts.append(
        _tick(
            f"{slots} tokens fit",
            x=limit + (-4 if near_end else 4),
            y=TOP + 2,
            anchor="end" if near_end else "start",
        )
    )
    for value, label in tokens.ticks(6):
        parts.append(_tick(label, x=tokens(value), y=BOTTOM + 14, anchor="middle"))
    axis = "tokens; the last bar holds all longer ones"
    parts.append(_tick(axis, x=(LEFT + RIGHT) / 2, y=HEIGHT - 6, anchor="middle"))
    text = (
        f"half have at most {histogram['median']:,.0f} tokens, the longest "
        f"{histogram['longest']:,}; {slots} fit"
    )
    return _picture(parts, ident, f"{what} by number of tokens", text)


def holes_plot(shares: Sequence[float], *, ident: str) -> str:
    """Share of unjudged documents among the best k of BM25, for every k."""
    depth = Linear(1, len(shares), LEFT, RIGHT)
    scale = Linear(0, 1, BOTTOM, TOP)
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = scale(share)
        style = "grid" if share else "zero"
        parts.append(element("line", class_=style, x1=LEFT, x2=RIGHT, y1=y, y2=y))
        parts.append(_tick(f"{100 * share:.0f} %", x=LEFT - 5, y=y + 4, anchor="end"))
    points = " ".join(f"{depth(k):.1f},{scale(v):.1f}" for k, v in enumerate(shares, 1))
    parts.append(element("polyline", class_="curve", points=points))
    for k in (k for k in MARKED if k <= len(shares)):
        x, y = depth(k), scale(shares[k - 1])
        tip = element("title", text=f"top {k}: {percent(shares[k - 1])} not judged")
        parts.append(element("circle", tip, class_="dot", cx=x, cy=y, r=3))
        label_y = y - 7 if y > TOP + 12 else y + 15
        anchor = "end" if k == len(shares) else "middle"
        parts.append(_tick(percent(shares[k - 1]), x=x, y=label_y, anchor=anchor))
        parts.append(_tick(str(k), x=x, y=BOTTOM + 14, anchor="middle"))
    parts.append(_tick("depth of the ranking", x=(LEFT + RIGHT) / 2, y=HEIGHT - 6, anchor="middle"))
    text = "; ".join(f"top {k}: {percent(shares[k - 1])}" for k in MARKED if k <= len(shares))
    return _picture(parts, ident, "Share of BM25's best documents that nobody judged", text)


def _levels(scale: Linear) -> list[str]:
    parts = []
    for value, label in scale.ticks(4):
        if value != int(value):
            continue
        y = scale(value)
        style = "grid" if value else "zero"
        parts.append(element("line", class_=style, x1=LEFT, x2=RIGHT, y1=y, y2=y))
        parts.append(_tick(label, x=LEFT - 5, y=y + 4, anchor="end"))
    return parts


def _bar(x: float, top: float, width: float, style: str) -> str:
    return element("rect", class_=style, x=x, y=top, width=width, height=BOTTOM - top)


def _tick(text: str, *, x: float, y: float, anchor: str) -> str:
    return element("text", text=text, class_="tick", x=x, y=y, text_anchor=anchor)


def _picture(parts: list[str], ident: str, title: str, text: str) -> str:
    return picture(parts, width=WIDTH, height=HEIGHT, ident=ident, title=title, text=text)
