"""Pictures of rankings, trainings and collections: matplotlib figures as inline SVG.

Text and axes have the colour of the page around them, data have mid-tones that show on light and
on dark paper.  Equal values give equal bytes.  Lengths are in points, which are the SVG's units.
"""

import contextlib
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ranker.errors import require

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = [
    "BETTER",
    "NEUTRAL",
    "TIME",
    "WORSE",
    "Dot",
    "Strip",
    "bars",
    "histogram",
    "reliability",
    "share_curve",
    "strips",
    "training_curves",
]

BETTER, WORSE, NEUTRAL = "#2a80b0", "#c8662c", "#8a8a84"
TIME = f"{BETTER}73"
"""Translucent, since latencies are close together."""
WIDTH = 400
MARGIN = 8
RADIUS = 2.2
LABEL, BAND, FOOT = 22, 48, 34
"""Heights in a picture of strips: of a strip's heading, of its dots, of the axis below."""
PILE = 28
MOST_DOTS = 400
MOST_POINTS = 400
SMOOTHING = 0.95
RANKS = "MRR, held-out documents"
"""What the panel of pretraining shows."""

_INK = "#010203"
"""Stands for the colour of the page's text, which only the page knows."""
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read out, searched and copied
    "text.parse_math": False,  # a name with two dollar signs is not a formula
    "axes.facecolor": "none",
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.18,
    "lines.linewidth": 1.7,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
    ),
}

Point = tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """A value, the colour of its dot, and its tooltip, if it has one."""

    value: float
    color: str
    tip: str = ""


@dataclass(frozen=True)
class Strip:
    """One row of dots.

    Attributes:
        label: what the row shows.
        note: text at the right of the label.
        dots: the values.
        marks: values with a line across the row, by their labels.
        interval: lower end, mean and upper end of a confidence interval, if there is one.
    """

    label: str
    note: str
    dots: Sequence[Dot]
    marks: Mapping[str, float] = field(default_factory=dict)
    interval: tuple[float, float, float] | None = None


@contextlib.contextmanager
def _styled() -> Iterator[None]:
    """Draw and write with the settings above, regardless of the caller's own."""
    with require("matplotlib", extra="evaluate").rc_context(_STYLE):
        yield


class _Picture:
    """A figure of the page's width, and the tooltips of what is drawn in it."""

    def __init__(self, height: float) -> None:
        figure = require("matplotlib.figure", extra="evaluate").Figure
        self._height = height
        # 72 dots per inch make a point of matplotlib a unit of the SVG.
        self._figure = figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        self._tips: dict[str, Sequence[str]] = {}

    def axes(self, *, left: float, right: float, top: float, bottom: float) -> "Axes":
        """Add axes between these distances from the left and from the top."""
        width, height = (right - left) / WIDTH, (bottom - top) / self._height
        axes: Axes = self._figure.add_axes((left / WIDTH, 1 - bottom / self._height, width, height))
        return axes

    def tip(self, artist: "Artist", *tips: str) -> None:
        """Give an artist, or each dot of a collection, a tooltip."""
        name = f"tips-{len(self._tips)}"
        artist.set_gid(name)
        self._tips[name] = tips

    def dots(
        self, axes: "Axes", points: Sequence[Point], color: str | list[str], tips: Sequence[str]
    ) -> None:
        """Draw dots that are not cut off at the ends of the axes."""
        if points:
            xs, ys = zip(*points, strict=True)
            size = (2 * RADIUS) ** 2  # matplotlib wants an area
            self.tip(axes.scatter(xs, ys, s=size, c=color, lw=0, clip_on=False, zorder=3), *tips)

    def svg(self, *, ident: str, title: str, text: str, background: str = "none") -> str:
        """Write the picture, which is read out as `title` and `text`.

        Args:
            ident: prefix of the ids inside it, unique in the page.
            title: what it shows.
            text: what is to be seen in it.
            background: its colour; transparent by default.
        """
        buffer = io.StringIO()
        # Ids of shapes are hashes; salted with the prefix they are unique in the page.
        require("matplotlib", extra="evaluate").rcParams["svg.hashsalt"] = ident
        self._figure.savefig(buffer, format="svg", facecolor=background, metadata={"Date": None})
        markup = buffer.getvalue().replace("xlink:href", "href").replace(_INK, "currentColor")
        markup = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", markup)
        # Without a namespace here, elements go by their plain names.
        root = ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", markup, count=1))
        for child in list(root):
            if child.tag.endswith("metadata") or child.find("style") is not None:
                root.remove(child)  # the style would apply to the whole page
        for group in root.iter("g"):
            tips = self._tips.get(group.attrib.pop("id", ""), ())
            # A collection of few dots is written as paths, not as uses of one shape.
            marks = list(group.iter("use")) or list(group.iter("path"))
            for mark, tip in zip(marks, tips, strict=False):
                if tip:
                    ElementTree.SubElement(mark, "title").text = tip
        for at, (name, words) in enumerate((("title", title), ("desc", text))):
            root.insert(at, child := ElementTree.Element(name, id=f"{ident}-{name}"))
            child.text = words
        root.set("xmlns", "http://www.w3.org/2000/svg")
        root.set("role", "img")
        root.set("aria-labelledby", f"{ident}-title {ident}-desc")
        return ElementTree.tostring(root, encoding="unicode")


@_styled()
def strips(rows: Sequence[Strip], *, ident: str, title: str, axis: str, log: bool = False) -> str:
    """Draw rows of dots over one axis.

    Args:
        rows: from top to bottom.
        ident: prefix of the ids in the picture, unique in the page.
        title: what the picture shows.
        axis: what the axis measures.
        log: use a logarithmic axis; otherwise a linear one with 0 in the middle.
    """
    ticker = require("matplotlib.ticker", extra="evaluate")
    bottom = (LABEL + BAND) * len(rows)
    picture = _Picture(bottom + FOOT)
    axes = picture.axes(left=MARGIN, right=WIDTH - MARGIN, top=LABEL - 4, bottom=bottom)
    axes.set(ylim=(bottom, LABEL - 4), yticks=[], xlabel=axis)
    values = [dot.value for row in rows for dot in row.dots]
    if log:
        low, high = min(values) / 1.3, max(values) * 1.5
        axes.set(xscale="log", xlim=(low, high))
        axes.xaxis.set_major_locator(
            ticker.LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,))
        )
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    else:
        most = 1.04 * max(map(abs, values), default=0) or 0.1
        axes.set(xlim=(-most, most))
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
        axes.axvline(0, color=_INK, alpha=0.6, linewidth=1)
    axes.grid(axis="x")
    for at, row in enumerate(rows):
        _strip(picture, axes, row, top=(LABEL + BAND) * at)
    text = "; ".join(f"{row.label}: {row.note}" for row in rows)
    return picture.svg(ident=ident, title=title, text=text)


def _strip(picture: _Picture, axes: "Axes", row: Strip, *, top: float) -> None:
    at_row = axes.get_yaxis_transform()
    axes.text(0, top + 13, row.label, transform=at_row, fontsize=11.5, fontweight="bold")
    axes.text(1, top + 13, row.note, transform=at_row, horizontalalignment="right")
    # Dots that would cover each other are piled up around the middle.
    columns: dict[int, list[Dot]] = defaultdict(list)
    for dot in _thinned(row.dots):
        columns[round(axes.transData.transform((dot.value, 0))[0] / (2 * RADIUS))].append(dot)
    placed = [
        (dot, top + LABEL + 17 + (at - (len(pile) - 1) / 2) * min(4.8, PILE / len(pile)))
        for pile in columns.values()
        for at, dot in enumerate(pile)
    ]
    colors, tips = [dot.color for dot, _ in placed], [dot.tip for dot, _ in placed]
    picture.dots(axes, [(dot.value, y) for dot, y in placed], colors, tips)
    for label, value in row.marks.items():
        ends = [top + LABEL + 2, top + LABEL + BAND - 13]
        axes.plot([value, value], ends, color=_INK, linewidth=1.2, zorder=4)
        axes.text(value, top + LABEL + BAND - 3, label, horizontalalignment="center")
    if row.interval is not None:
        low, mean, high = row.interval
        y = top + LABEL + BAND - 8
        axes.plot([low, high], [y, y], color=_INK, linewidth=1.6)
        axes.plot([mean], [y], "D", color=_INK, markersize=5)


def _thinned(dots: Sequence[Dot]) -> list[Dot]:
    """Keep at most `MOST_DOTS` of the dots, evenly by value, the ends always among them."""
    ordered = sorted(dots, key=lambda dot: dot.value)
    if len(ordered) <= MOST_DOTS:
        return ordered
    step = (len(ordered) - 1) / (MOST_DOTS - 1)
    return [ordered[round(at * step)] for at in range(MOST_DOTS)]


@dataclass(frozen=True)
class _Stage:
    """A stage's curves; its steps are counted from the end of the stage before."""

    name: str
    start: float
    end: float
    loss: list[Point]
    smooth: list[Point]
    values: list[Point]
    ranks: list[Point]


@_styled()
def training_curves(
    runs: Mapping[str, Mapping[str, Any]],
    *,
    measure: str = "nDCG@10",
    ident: str = "training",
    background: str = "none",
) -> str:
    """Draw loss above and a measure on held-out queries below, stages one after the other.

    What pretraining stopped by, the reciprocal rank in held-out groups, has a panel of its own.

    Args:
        runs: by name, each with `history` and `evaluations` as in `training.json`.  Of several
            runs only the smoothed losses are shown.
        measure: its name; evaluations have it in small letters.
        ident: prefix of the ids in the picture, unique in the page.
        background: colour of the picture; transparent by default.
    """
    stages = [(name, stage) for name, run in runs.items() for stage in _stages(run, measure)]
    has_rank = any(stage.ranks for _, stage in stages)
    picture = _Picture(418 if has_rank else 302)
    end = max((stage.end for _, stage in stages), default=0) or 1
    has_loss, has_value = any(s.loss for _, s in stages), any(s.values for _, s in stages)
    loss = _panel(picture, "loss", has_loss, top=24, bottom=150, end=end)
    held = _panel(picture, f"{measure}, held-out queries", has_value, top=186, bottom=266, end=end)
    panels = [loss, held]
    if has_rank:
        panels.append(_panel(picture, RANKS, True, top=302, bottom=382, end=end))
    for axes in panels[:-1]:
        axes.set(xticks=[])
    panels[-1].set(xlabel="step")
    alone = len(runs) == 1
    colors = {name: BETTER if alone else f"C{at % 10}" for at, name in enumerate(runs)}
    for name, stage in stages:
        color = colors[name]
        if alone:
            loss.plot(*_line(stage.loss), color=color, alpha=0.3, linewidth=0.8)
            for axes in panels:
                axes.axvline(stage.start, color=_INK, alpha=0.6, linewidth=1)
            at_step = loss.get_xaxis_transform()
            loss.text(stage.end, 1, f"{stage.name} ", transform=at_step, ha="right", va="top")
        label = None if alone or stage.start else name
        loss.plot(*_line(stage.smooth), color=color, label=label)
        for axes, values in zip(panels[1:], (stage.values, stage.ranks), strict=False):
            axes.plot(*_line(values), color=color)
            tips = [f"{name} step {step:g}: {value:.3f}".strip() for step, value in values]
            picture.dots(axes, values, color, tips)
    if stages and not alone:
        loss.legend(frameon=False, ncols=2, loc="upper right")
    title = f"Loss and held-out {measure} over the steps of training"
    text = "; ".join(itertools.chain.from_iterable(_described(*pair, measure) for pair in stages))
    return picture.svg(ident=ident, title=title, text=text, background=background)


def _panel(
    picture: _Picture, title: str, recorded: bool, *, top: float, bottom: float, end: float
) -> "Axes":
    ticker = require("matplotlib.ticker", extra="evaluate")
    axes = picture.axes(left=40, right=WIDTH - 10, top=top, bottom=bottom)
    axes.set_title(title if recorded else f"{title}: not recorded")
    axes.set(xlim=(0, end))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.yaxis.set_visible(recorded)
    axes.grid(axis="y")
    return axes


def _described(name: str, stage: _Stage, measure: str) -> Iterator[str]:
    named = f"{name} {stage.name}".strip()
    if stage.loss:
        first, last = stage.loss[0][1], stage.smooth[-1][1]
        yield f"{named}: loss from {first:.3f} to {last:.3f} (smoothed)"
    for what, values in ((measure, stage.values), (RANKS, stage.ranks)):
        if values:
            best = max(value for _, value in values)
            yield f"{named}: {what} from {values[0][1]:.3f}, best {best:.3f}"


def _stages(run: Mapping[str, Any], measure: str) -> list[_Stage]:
    stages, start = [], 0.0
    for name in dict.fromkeys(row["stage"] for row in (*run["history"], *run["evaluations"])):
        loss, values, ranks = (
            [
                (start + row["step"], row[key])
                for row in run[part]
                if row["stage"] == name and key in row
            ]
            for part, key in (
                ("history", "loss"),
                ("evaluations", measure.lower()),
                ("evaluations", "mrr"),
            )
        )
        end = max(step for step, _ in [*loss, *values, *ranks])
        stages.append(_Stage(name, start, end, loss, _smooth(loss), values, ranks))
        start = end
    return stages


def _smooth(curve: Sequence[Point]) -> list[Point]:
    """Take the exponential mean, started as a plain mean so that the first steps do not linger."""
    smooth: list[Point] = []
    for at, (step, value) in enumerate(curve):
        keep = min(SMOOTHING, at / (at + 1))
        smooth.append((step, value if not smooth else keep * smooth[-1][1] + (1 - keep) * value))
    return smooth


def _line(curve: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Split a curve into its coordinates; of a long one, take the means of runs of points."""
    width = -(-len(curve) // MOST_POINTS) or 1
    runs = [curve[at : at + width] for at in range(0, len(curve), width)]
    return [run[len(run) // 2][0] for run in runs], [sum(v for _, v in r) / len(r) for r in runs]


def _chart(axis: str, *, left: float) -> "tuple[_Picture, Axes]":
    picture = _Picture(188)
    axes = picture.axes(left=left, right=WIDTH - 12, top=20, bottom=150)
    axes.set(xlabel=axis)
    axes.spines["bottom"].set_visible(True)
    return picture, axes


@_styled()
def bars(
    counts: Mapping[str, int], *, highlighted: Collection[str], axis: str, ident: str, title: str
) -> str:
    """Draw counts by category; the highlighted ones in colour."""
    picture, axes = _chart(axis, left=12)
    colors = [BETTER if name in highlighted else NEUTRAL for name in counts]
    width = min(0.7, 48 * len(counts) / (WIDTH - 24))
    drawn = axes.bar(range(len(counts)), list(counts.values()), width=width, color=colors)
    axes.bar_label(drawn, [f"{count:,}" for count in counts.values()], padding=2)
    axes.set_xticks(range(len(counts)), list(counts))
    axes.set(yticks=[], xlim=(-0.5, len(counts) - 0.5))
    text = "; ".join(f"{axis} {name}: {count:,}" for name, count in counts.items())
    return picture.svg(ident=ident, title=title, text=text)


@_styled()
def histogram(
    counts: Sequence[int],
    *,
    width: int,
    limit: int,
    limit_label: str,
    axis: str,
    ident: str,
    title: str,
    text: str,
) -> str:
    """Draw the counts of classes of whole numbers, and a limit after `limit`.

    Each class is `width` wide; the last one holds all larger numbers.
    """
    ticker = require("matplotlib.ticker", extra="evaluate")
    picture, axes = _chart(axis, left=46)
    end = width * len(counts)
    for low, count in zip(range(0, end, width), counts, strict=True):
        color = BETTER if low < limit else WORSE
        (drawn,) = axes.bar(low, count, width=0.94 * width, align="edge", color=color)
        numbers = f"{low}–{low + width - 1}" if low + width < end else f"{low} or more"
        picture.tip(drawn, f"{numbers}: {count:,}")
    axes.axvline(limit + 0.5, color=_INK, linewidth=1.2)
    axes.annotate(
        limit_label,
        (limit + 0.5, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-4 if limit > end / 2 else 4, -9),
        textcoords="offset points",
        ha="right" if limit > end / 2 else "left",
    )
    axes.set(xlim=(0, end), ylim=(0, 1.08 * max(*counts, 1)))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(4, integer=True))
    axes.grid(axis="y")
    return picture.svg(ident=ident, title=title, text=text)


@_styled()
def share_curve(
    shares: Sequence[float], marked: Mapping[int, str], *, axis: str, ident: str, title: str
) -> str:
    """Draw shares of 1 at the depths 1, 2, ...; some depths are marked with a dot and a label."""
    picture, axes = _chart(axis, left=46)
    axes.plot(range(1, len(shares) + 1), shares, color=BETTER)
    points = [(depth, shares[depth - 1]) for depth in marked]
    tips = [f"top {depth}: {label}" for depth, label in marked.items()]
    picture.dots(axes, points, BETTER, tips)
    for point, label in zip(points, marked.values(), strict=True):
        last = point[0] == len(shares)
        place, side = ((0, -15), "right") if last else ((4, -13), "left")
        axes.annotate(label, point, xytext=place, textcoords="offset points", ha=side)
    axes.set(xlim=(1, max(len(shares), 2)), ylim=(0, 1), xticks=list(marked))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="y")
    return picture.svg(ident=ident, title=title, text="; ".join(tips))


@_styled()
def reliability(bins: Sequence[Mapping[str, float]], *, brier: float, ident: str) -> str:
    """Draw the share of relevant pairs over the mean probability, a dot for each bin.

    Args:
        bins: each with `predicted`, `relevant` and `pairs`, as in `training.json`.
        brier: the Brier score, which the picture names.
        ident: prefix of the ids in the picture, unique in the page.
    """
    ticker = require("matplotlib.ticker", extra="evaluate")
    picture = _Picture(302)
    axes = picture.axes(left=46, right=WIDTH - 12, top=24, bottom=264)
    axes.set_title(f"Brier score {brier:.4f}")
    # Most pairs are improbable, so the axes end where the bins do.
    end = min(1.0, 1.08 * max(max(row["predicted"], row["relevant"]) for row in bins))
    axes.plot([0, end], [0, end], color=_INK, alpha=0.6, linewidth=1)
    points = [(row["predicted"], row["relevant"]) for row in bins]
    axes.plot(*_line(points), color=BETTER)
    tips = [
        f"{row['pairs']:,} pairs: probability {row['predicted']:.3f}, "
        f"relevant {row['relevant']:.3f}"
        for row in bins
    ]
    picture.dots(axes, points, BETTER, tips)
    axes.set(xlim=(0, end), ylim=(0, end))
    axes.set(xlabel="mean probability of the pairs", ylabel="share that is relevant")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.MaxNLocator(4))
    axes.grid()
    title = "Share of relevant pairs over their probability; on the line, both are equal"
    return picture.svg(ident=ident, title=title, text="; ".join(tips))
