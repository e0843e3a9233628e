"""The pictures of a training run: loss and nDCG@10 over its steps, and those of its folds."""

import io
from collections.abc import Sequence
from typing import Any

from ranker.errors import require

__all__ = ["folds_plot", "loss_plot"]

_LOSS, _NDCG = "#246", "#c40"
Rows = Sequence[dict[str, Any]]


def loss_plot(report: dict[str, Any]) -> str:
    """An SVG of the losses (smoothed and raw) and the held-out nDCG@10, stages side by side."""
    rows = [*report["history"], *report["evaluations"]]
    stages = list(dict.fromkeys(row["stage"] for row in rows)) or ["judged"]
    figure = _figure(width=5 * len(stages))
    for at, stage in enumerate(stages):
        axes = figure.add_subplot(1, len(stages), at + 1)
        history = [row for row in report["history"] if row["stage"] == stage]
        evaluations = [row for row in report["evaluations"] if row["stage"] == stage]
        _draw(axes, stage, history, evaluations)
    return _svg(figure)


def folds_plot(folds: Rows) -> str:
    """An SVG of every fold's smoothed loss and of its nDCG@10 on the queries it stopped by.

    Args:
        folds: the folds' records of training.json, with `history` and `evaluations`.
    """
    figure = _figure(width=10)
    loss, ndcg = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for fold in folds:
        _line(loss, fold["history"], "loss", label=f"fold {fold['fold']}")
        ndcg.plot(*_points(fold["evaluations"], "ndcg@10"), "o-", label=f"fold {fold['fold']}")
    loss.set(title="folds", xlabel="step", ylabel="loss, smoothed")
    ndcg.set(title="folds", xlabel="step", ylabel="nDCG@10 of the queries to stop by")
    if folds:
        ndcg.legend(fontsize="small")
    return _svg(figure)


def _draw(axes: Any, stage: str, history: Rows, evaluations: Rows) -> None:
    axes.plot(*_points(history, "loss"), color="#9ab", linewidth=0.7, label="loss")
    _line(axes, history, "loss", color=_LOSS, label="loss, smoothed")
    axes.set(title=stage, xlabel="step", ylabel="loss")
    if evaluations:
        right = axes.twinx()
        right.plot(*_points(evaluations, "ndcg@10"), "o-", color=_NDCG, label="nDCG@10 held out")
        right.set_ylabel("nDCG@10 held out")


def _line(axes: Any, rows: Rows, name: str, **style: Any) -> None:
    steps, values = _points(rows, name)
    axes.plot(steps, _smooth(values), **style)


def _points(rows: Rows, name: str) -> tuple[list[int], list[float]]:
    return [row["step"] for row in rows], [row[name] for row in rows]


def _smooth(values: list[float], factor: float = 0.9) -> list[float]:
    """Exponential mean, so that a trend shows through the noise of small batches."""
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else factor * smooth[-1] + (1 - factor) * value)
    return smooth


def _figure(*, width: float) -> Any:
    require("matplotlib", extra="train")
    figure_of = require("matplotlib.figure", extra="train").Figure
    return figure_of(figsize=(width, 3.2), layout="constrained")


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    with require("matplotlib", extra="train").rc_context({"svg.hashsalt": "ranker"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
