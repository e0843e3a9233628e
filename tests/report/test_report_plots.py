"""Scales against hand-computed positions; pictures read back from their SVG."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.report.curves import training_curves
from ranker.report.scales import Linear, Log, around
from ranker.report.strips import MOST_DOTS, Dot, Mark, Strip, strips
from ranker.report.svg import element


def test_linear_scale():
    scale = Linear(0, 10, 100, 0)
    assert [scale(value) for value in (0, 5, 10)] == [100, 50, 0]
    assert scale.ticks(5) == [(0, "0"), (2, "2"), (4, "4"), (6, "6"), (8, "8"), (10, "10")]


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (-1, 1, ["−1.0", "−0.5", "0.0", "0.5", "1.0"]),
        (-0.6, 0.6, ["−0.50", "−0.25", "0.00", "0.25", "0.50"]),
        (0.31, 0.43, ["0.325", "0.350", "0.375", "0.400", "0.425"]),
        (0, 620, ["0", "200", "400", "600"]),
    ],
)
def test_ticks_are_round_and_labelled_with_all_their_digits(low, high, labels):
    assert [label for _, label in Linear(low, high, 0, 1).ticks(5)] == labels


def test_log_scale():
    scale = Log(1, 1000, 0, 300)
    assert [scale(v) for v in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])
    assert scale(0.01) == 0
    assert [value for value, _ in scale.ticks()] == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert [label for _, label in Log(0.5, 1e4, 0, 1).ticks()] == [
        "1",
        "10",
        "100",
        "1000",
        "1e+04",
    ][:4] + ["10000"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_an_axis_holds_its_values_and_has_a_width(values):
    low, high = around(values)
    assert low < high
    assert low <= min(values) <= max(values) <= high
    scale = Linear(low, high, 0, 100)
    assert all(-1e-6 <= scale(value) <= 100 + 1e-6 for value in values)
    if math.isfinite(high - low) and high - low > 1e-9:
        assert 1 <= len(scale.ticks(4)) <= 6


def test_elements_are_escaped():
    made = element("text", text="<b>&", class_='x" onload="y', font_size=1.25)
    assert made == '<text class="x&quot; onload=&quot;y" font-size="1.2">&lt;b&gt;&amp;</text>'
    assert element("g", x=3.0) == '<g x="3"/>'


def parsed(svg):
    root = ET.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("role") == "img"
    named = [root.find(f"*[@id='{ident}']") for ident in root.get("aria-labelledby").split()]
    assert all(part is not None and part.text for part in named)
    return root


def test_strips_put_every_dot_at_its_value():
    values = [-0.5, 0.0, 0.0, 0.25]
    dots = [Dot(value, "win" if value > 0 else "loss", f"v {value}") for value in values]
    row = Strip("blend − bm25", "1 < 2", dots, [Mark(0.1, "p50")], interval=(-0.1, 0.05, 0.2))
    scale = Linear(-1, 1, 0, 400)
    root = parsed(strips([row], scale, ident="d", title="T", axis="difference"))
    circles = {c.find("title").text: c for c in root.iter("circle")}
    assert float(circles["v -0.5"].get("cx")) == 100
    assert float(circles["v 0.25"].get("cx")) == 250
    assert circles["v 0.25"].get("class") == "win"
    assert len(list(root.iter("circle"))) == 4
    ties = [c for c in root.iter("circle") if c.get("cx") == "200"]
    assert len({c.get("cy") for c in ties}) == 2  # piled up, not hidden
    interval = next(line for line in root.iter("line") if line.get("class") == "ci")
    assert (float(interval.get("x1")), float(interval.get("x2"))) == (180, 240)
    assert root.find("desc").text == "blend − bm25: 1 < 2"


def test_many_dots_are_thinned_and_keep_the_extremes():
    dots = [Dot(float(value), "time") for value in range(5_000)]
    scale = Linear(0, 5_000, 0, 400)
    root = parsed(strips([Strip("a", "b", dots)], scale, ident="d", title="T", axis="x"))
    positions = [float(c.get("cx")) for c in root.iter("circle")]
    assert len(positions) == MOST_DOTS
    assert (min(positions), max(positions)) == (0.0, pytest.approx(scale(4_999), abs=0.1))


def training(steps=4, **changes):
    history = [
        {"stage": stage, "step": step, "loss": 2.0 - step / steps, "seconds": 1.0}
        for stage in ("warmup", "judged")
        for step in range(1, steps + 1)
    ]
    evaluations = [{"stage": "judged", "step": steps, "ndcg@10": 0.5}]
    return {"history": history, "evaluations": evaluations, **changes}


def test_curves_lay_the_stages_one_after_the_other():
    root = parsed(training_curves(training(), ident="c"))
    raw = [line for line in root.iter("polyline") if line.get("class") == "raw"]
    ends = [line.get("points").split()[-1].split(",")[0] for line in raw]
    start, middle, end = 40, 215, 390  # 0, 4 and 8 steps
    assert [float(x) for x in ends] == [middle, end]
    dot = next(root.iter("circle"))
    assert float(dot.get("cx")) == end
    assert dot.find("title").text == "step 8: 0.500"
    labels = [text.text for text in root.iter("text")]
    assert {"warmup", "judged", "loss", "nDCG@10, held-out queries", "step"} <= set(labels)
    assert start < middle


def test_long_curves_are_thinned():
    root = parsed(training_curves(training(steps=3_000), ident="c"))
    raw = next(line for line in root.iter("polyline") if line.get("class") == "raw")
    assert 200 < len(raw.get("points").split()) <= 400


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluations": []}, "nDCG@10, held-out queries: not recorded"),
        ({"history": []}, "loss: not recorded"),
        ({"history": [], "evaluations": []}, "loss: not recorded"),
    ],
)
def test_a_training_without_history_says_so(changes, said):
    root = parsed_or_empty(training_curves(training(**changes), ident="c"))
    assert said in [text.text for text in root.iter("text")]


def parsed_or_empty(svg):
    return ET.fromstring(svg)
