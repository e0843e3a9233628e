"""The loss and the held-out nDCG@10 over the steps of a training run, as inline SVG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ranker.report.scales import Linear, around
from ranker.report.svg import element, picture

__all__ = ["training_curves"]

WIDTH = 400
LEFT = 40
RIGHT = WIDTH - 10
LOSS = (24.0, 150.0)
NDCG = (186.0, 266.0)
HEIGHT = 302
MOST_POINTS = 400
SMOOTHING = 0.95
NDCG_TITLE = "nDCG@10, held-out queries"

Point = tuple[float, float]


@dataclass(frozen=True)
class _Stage:
    """A stage's curves, its steps counted on from those of the stage before."""

    name: str
    start: float
    end: float
    loss: list[Point]
    ndcg: list[Point]


def training_curves(training: Mapping[str, Any], *, ident: str) -> str:
    """Loss above, nDCG@10 on held-out queries below, stages one after the other.

    Args:
        training: the content of `training.json`.
        ident: prefix of the ids in the picture, unique in the page.
    """
    stages = _stages(training)
    steps = Linear(0, max((stage.end for stage in stages), default=1) or 1, LEFT, RIGHT)
    parts = _steps_axis(steps)
    for stage in stages:
        parts += _stage_label(stage, steps)
    parts += _panel([stage.loss for stage in stages], steps, LOSS, title="loss", draw=_loss)
    parts += _panel([stage.ndcg for stage in stages], steps, NDCG, title=NDCG_TITLE, draw=_ndcg)
    return picture(
        parts,
        width=WIDTH,
        height=HEIGHT,
        ident=ident,
        title="Loss and held-out nDCG@10 over the steps of training",
        text=_described(stages),
    )


def _stages(training: Mapping[str, Any]) -> list[_Stage]:
    rows = [*training["history"], *training["evaluations"]]
    stages, start = [], 0.0
    for name in dict.fromkeys(row["stage"] for row in rows):
        loss = [(r["step"], r["loss"]) for r in training["history"] if r["stage"] == name]
        ndcg = [(r["step"], r["ndcg@10"]) for r in training["evaluations"] if r["stage"] == name]
        end = start + max(step for step, _ in [*loss, *ndcg])
        stages.append(_Stage(name, start, end, _moved(loss, start), _moved(ndcg, start)))
        start = end
    return stages


def _moved(points: Sequence[Point], start: float) -> list[Point]:
    return [(start + step, value) for step, value in points]


def _panel(
    curves: Sequence[Sequence[Point]],
    steps: Linear,
    place: tuple[float, float],
    *,
    title: str,
    draw: Callable[[Sequence[Point], Linear, Linear], list[str]],
) -> list[str]:
    """One of the two pictures with its own axis."""
    top, bottom = place
    values = [value for curve in curves for _, value in curve]
    title = title if values else f"{title}: not recorded"
    parts = [element("text", text=title, class_="label", x=LEFT, y=top - 7)]
    if values:
        axis = Linear(*around(values), bottom, top)
        parts += _grid(axis)
        for curve in curves:
            parts += draw(curve, steps, axis)
    return parts


def _loss(curve: Sequence[Point], steps: Linear, axis: Linear) -> list[str]:
    return [
        _line(_thinned(curve), steps, axis, style="raw"),
        _line(_thinned(_smooth(curve)), steps, axis, style="curve"),
    ]


def _ndcg(curve: Sequence[Point], steps: Linear, axis: Linear) -> list[str]:
    dots = [
        element(
            "circle",
            element("title", text=f"step {step:g}: {value:.3f}"),
            class_="dot",
            cx=steps(step),
            cy=axis(value),
            r=3,
        )
        for step, value in curve
    ]
    return [_line(curve, steps, axis, style="curve"), *dots]


def _line(curve: Sequence[Point], steps: Linear, axis: Linear, *, style: str) -> str:
    points = " ".join(f"{steps(step):.1f},{axis(value):.1f}" for step, value in curve)
    return element("polyline", class_=style, points=points)


def _grid(axis: Linear) -> list[str]:
    parts = []
    for value, label in axis.ticks(4):
        y = axis(value)
        parts.append(element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=y, y2=y))
        parts.append(_tick(label, x=LEFT - 5, y=y + 4, anchor="end"))
    return parts


def _stage_label(stage: _Stage, steps: Linear) -> list[str]:
    x = steps(stage.start)
    return [
        element("line", class_="zero", x1=x, x2=x, y1=LOSS[0], y2=NDCG[1]),
        _tick(stage.name, x=steps(stage.end) - 3, y=LOSS[0] + 10, anchor="end"),
    ]


def _steps_axis(steps: Linear) -> list[str]:
    whole = [(value, label) for value, label in steps.ticks(5) if value == int(value)]
    labels = [_tick(label, x=steps(v), y=NDCG[1] + 15, anchor="middle") for v, label in whole]
    return [*labels, _tick("step", x=(LEFT + RIGHT) / 2, y=HEIGHT - 5, anchor="middle")]


def _tick(text: str, *, x: float, y: float, anchor: str) -> str:
    return element("text", text=text, class_="tick", x=x, y=y, text_anchor=anchor)


def _described(stages: Sequence[_Stage]) -> str:
    parts = []
    for stage in stages:
        if stage.loss:
            first, last = stage.loss[0][1], _smooth(stage.loss)[-1][1]
            parts.append(f"{stage.name}: loss from {first:.3f} to {last:.3f} (smoothed)")
        if stage.ndcg:
            best = max(value for _, value in stage.ndcg)
            parts.append(f"{stage.name}: nDCG@10 from {stage.ndcg[0][1]:.3f}, best {best:.3f}")
    return "; ".join(parts)


def _smooth(curve: Sequence[Point]) -> list[Point]:
    """Exponential mean, started as a plain mean so that the first steps do not hang on."""
    smooth: list[Point] = []
    for at, (step, value) in enumerate(curve):
        keep = min(SMOOTHING, at / (at + 1))
        smooth.append((step, value if not smooth else keep * smooth[-1][1] + (1 - keep) * value))
    return smooth


def _thinned(curve: Sequence[Point]) -> list[Point]:
    """Means of runs of points, so that a long training stays a small picture."""
    width = -(-len(curve) // MOST_POINTS) or 1
    runs = [curve[at : at + width] for at in range(0, len(curve), width)]
    return [(run[len(run) // 2][0], sum(v for _, v in run) / len(run)) for run in runs]
