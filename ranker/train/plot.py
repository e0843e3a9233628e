"""The picture of a training run: loss and nDCG@10 over its steps."""

import io
from typing import Any

from ranker.errors import require

__all__ = ["loss_plot"]


def loss_plot(report: dict[str, Any]) -> str:
    """An SVG of the losses (smoothed and raw) and the held-out nDCG@10, stages side by side."""
    require("matplotlib", extra="train")
    figure_of = require("matplotlib.figure", extra="train").Figure
    stages = list(dict.fromkeys(row["stage"] for row in report["evaluations"])) or ["judged"]
    figure = figure_of(figsize=(5 * len(stages), 3.2), layout="constrained")
    for at, stage in enumerate(stages):
        axes = figure.add_subplot(1, len(stages), at + 1)
        _draw(axes, stage, report)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw(axes: Any, stage: str, report: dict[str, Any]) -> None:
    rows = [row for row in report["history"] if row["stage"] == stage]
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    axes.plot(steps, losses, color="#9ab", linewidth=0.7, label="loss")
    axes.plot(steps, _smooth(losses), color="#246", label="loss, smoothed")
    axes.set(title=stage, xlabel="step", ylabel="loss")
    right = axes.twinx()
    points = [row for row in report["evaluations"] if row["stage"] == stage]
    right.plot(
        [row["step"] for row in points],
        [row["ndcg@10"] for row in points],
        "o-",
        color="#c40",
        label="nDCG@10 held out",
    )
    right.set_ylabel("nDCG@10 held out")


def _smooth(values: list[float], factor: float = 0.9) -> list[float]:
    """Exponential mean, so that a trend shows through the noise of small batches."""
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else factor * smooth[-1] + (1 - factor) * value)
    return smooth
