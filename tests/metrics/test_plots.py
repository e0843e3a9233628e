"""Pictures read back from their SVG: positions, colours, tooltips and words."""

import random
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.metrics.plots import (
    BETTER,
    MARGIN,
    MOST_DOTS,
    NEUTRAL,
    TIME,
    WIDTH,
    WORSE,
    Dot,
    Strip,
    bars,
    reliability,
    share_curve,
    strips,
    training_curves,
)

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    named = [root.find(f"*[@id='{ident}']") for ident in root.get("aria-labelledby").split()]
    assert all(part is not None for part in named)
    assert named[0].text
    return root


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def tips(root):
    """Tooltips with the marks that have them."""
    marks = [*root.iter(f"{SVG}use"), *root.iter(f"{SVG}path")]
    return {
        mark.find(f"{SVG}title").text: mark
        for mark in marks
        if mark.find(f"{SVG}title") is not None
    }


def x_of(mark):
    return float(mark.get("x"))


def lines(root, *styles):
    """Points of the lines that are drawn with all of these styles."""
    return [
        [tuple(map(float, pair)) for pair in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.get("d"))]
        for path in root.iter(f"{SVG}path")
        if all(style in path.get("style", "") for style in ("fill: none", *styles))
    ]


def strip_of(*values, color=BETTER, **rest):
    return Strip("blend − bm25", "1 < 2", [Dot(v, color, f"v {v}") for v in values], **rest)


def test_strips_put_every_dot_at_its_value():
    row = strip_of(-0.5, 0.0, 0.0, 1.0, marks={"p50": 0.1}, interval=(-0.1, 0.05, 0.2))
    root = parsed(strips([row], ident="d", title="T", axis="difference"))
    shown = tips(root)
    middle, unit = WIDTH / 2, (WIDTH / 2 - MARGIN) / 1.04
    assert x_of(shown["v -0.5"]) == pytest.approx(middle - 0.5 * unit)
    assert x_of(shown["v 1.0"]) == pytest.approx(middle + unit)
    dots = list(root.iter(f"{SVG}use"))
    ties = [dot for dot in dots if x_of(dot) == pytest.approx(middle)]
    assert len({dot.get("y") for dot in ties}) == 2  # piled up, not hidden
    (interval,) = lines(root, "stroke-width: 1.6")
    assert [x for x, _ in interval] == pytest.approx([middle - 0.1 * unit, middle + 0.2 * unit])
    (mark,) = lines(root, "stroke-width: 1.2")
    assert [x for x, _ in mark] == pytest.approx([middle + 0.1 * unit] * 2)
    assert root.find(f"{SVG}desc").text == "blend − bm25: 1 < 2"
    assert {"blend − bm25", "1 < 2", "p50", "difference"} <= set(texts(root))


def test_dots_have_the_colours_of_their_values():
    dots = [Dot(-0.5, WORSE), Dot(0.0, NEUTRAL), Dot(0.5, BETTER)]
    root = parsed(strips([Strip("a", "b", dots)], ident="d", title="T", axis="x"))
    marks = sorted(root.iter(f"{SVG}use"), key=x_of) or list(root.iter(f"{SVG}path"))
    drawn = [re.search(r"fill: (#\w+)", mark.get("style"))[1] for mark in marks]
    assert [color for color in drawn if color in (WORSE, NEUTRAL, BETTER)] == [
        WORSE,
        NEUTRAL,
        BETTER,
    ]


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (1, ["−1.0", "−0.5", "0.0", "0.5", "1.0"]),
        (0.7, ["−0.6", "−0.3", "0.0", "0.3", "0.6"]),
        (0.02, ["−0.02", "−0.01", "0.00", "0.01", "0.02"]),
    ],
)
def test_ticks_are_round_and_labelled_with_all_their_digits(most, labels):
    root = parsed(strips([strip_of(most)], ident="d", title="T", axis="x"))
    assert [text for text in texts(root) if re.fullmatch(r"−?[\d.]+", text)] == labels


@pytest.mark.parametrize(
    ("values", "labels"),
    [((1.3, 600), "1 2 5 10 20 50 100 200 500"), ((0.65, 6_000), "1 10 100 1000")],
)
def test_latencies_are_drawn_on_a_logarithmic_axis(values, labels):
    row = strip_of(*values, (values[0] * values[1]) ** 0.5, color=TIME)
    root = parsed(strips([row], ident="d", title="T", axis="ms", log=True))
    assert [text for text in texts(root) if re.fullmatch(r"[\d.]+", text)] == labels.split()
    low, middle, high = sorted(map(x_of, root.iter(f"{SVG}use")))
    assert middle == pytest.approx((low + high) / 2, abs=0.1)


def test_many_dots_are_thinned_and_keep_the_extremes():
    dots = [Dot(float(value), TIME) for value in range(5_000)]
    root = parsed(strips([Strip("a", "b", dots)], ident="d", title="T", axis="x"))
    positions = [x_of(dot) for dot in root.iter(f"{SVG}use")]
    assert len(positions) == MOST_DOTS
    assert min(positions) == pytest.approx(WIDTH / 2)
    assert max(positions) == pytest.approx(WIDTH / 2 + (WIDTH / 2 - MARGIN) / 1.04)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_an_axis_holds_its_values(values):
    root = parsed(strips([strip_of(*values)], ident="d", title="T", axis="x"))
    assert all(MARGIN <= x_of(dot) <= WIDTH - MARGIN for dot in root.iter(f"{SVG}use"))


def test_what_a_picture_says_is_escaped_and_no_formula():
    evil = "<b>&$x^2$"
    row = Strip(evil, "note", [Dot(0.1, BETTER, evil), Dot(0.2, BETTER), Dot(0.3, BETTER)])
    svg = strips([row], ident="d", title=evil, axis="x")
    assert "<b>" not in svg
    root = parsed(svg)
    assert evil in texts(root)
    assert evil in tips(root)


def test_a_picture_brings_nothing_but_itself_and_is_the_same_each_time():
    def draw(ident):
        return strips([strip_of(0.1, 0.2, 0.3)], ident=ident, title="T", axis="x")

    assert draw("a") == draw("a")
    for name in ("<style", "<metadata", "<?xml", "<!DOCTYPE", "xlink", "#ffffff", "#010203"):
        assert name not in draw("a")
    ids = [re.findall(r'\bid="([^"]+)"', draw(ident)) for ident in ("a", "b")]
    assert len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
    for ident, own in zip("ab", ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', draw(ident))) <= set(own)


def training(steps=4, **changes):
    history = [
        {"stage": stage, "step": step, "loss": 2.0 - step / steps, "seconds": 1.0}
        for stage in ("pretrain", "judged")
        for step in range(1, steps + 1)
    ]
    evaluations = [{"stage": "judged", "step": steps, "ndcg@10": 0.5}]
    return {"history": history, "evaluations": evaluations, **changes}


def test_curves_lay_the_stages_one_after_the_other():
    root = parsed(training_curves({"": training()}, ident="c"))
    raw = lines(root, f"stroke: {BETTER}", "stroke-width: 0.8")
    middle, end = 215, 390  # 4 and 8 steps
    assert [line[-1][0] for line in raw] == pytest.approx([middle, end])
    (tip,) = tips(root)
    assert tip == "step 8: 0.500"
    labels = {text.strip() for text in texts(root)}
    assert {"pretrain", "judged", "loss", "nDCG@10, held-out queries", "step"} <= labels
    assert root.find(f"{SVG}desc").text == (
        "pretrain: loss from 1.750 to 1.375 (smoothed); "
        "judged: loss from 1.750 to 1.375 (smoothed); "
        "judged: nDCG@10 from 0.500, best 0.500"
    )


def test_what_pretraining_stops_by_has_a_panel_of_its_own():
    ranks = [{"stage": "pretrain", "step": step, "mrr": 0.2 + step / 10} for step in (0, 4)]
    plain = training()
    both = {**plain, "evaluations": [*ranks, *plain["evaluations"]]}
    root = parsed(training_curves({"": both}, ident="c"))
    labels = {text.strip() for text in texts(root)}
    assert {"nDCG@10, held-out queries", "MRR, held-out documents", "step"} <= labels
    shown = {tip: (x_of(mark), float(mark.get("y"))) for tip, mark in tips(root).items()}
    assert {tip: x for tip, (x, _) in shown.items()} == pytest.approx(
        {"step 0: 0.200": 40, "step 4: 0.600": 215, "step 8: 0.500": 390}
    )
    (low, high), ndcg = (
        (shown["step 0: 0.200"][1], shown["step 4: 0.600"][1]),
        shown["step 8: 0.500"][1],
    )
    assert low > high > ndcg  # from the top: the panel of MRR is the lowest
    said = root.find(f"{SVG}desc").text
    assert "pretrain: MRR, held-out documents from 0.200, best 0.600" in said
    assert "judged: nDCG@10 from 0.500, best 0.500" in said
    assert "MRR" not in training_curves({"": plain}, ident="c")


def test_dots_of_a_curve_are_at_their_steps():
    evaluations = [{"stage": "judged", "step": step, "ndcg@10": 0.1 * step} for step in (1, 2, 4)]
    shown = tips(parsed(training_curves({"": training(evaluations=evaluations)}, ident="c")))
    left, right = 40, 390
    assert {tip: x_of(mark) for tip, mark in shown.items()} == pytest.approx(
        {
            f"step {step}: {0.1 * (step - 4):.3f}": left + step / 8 * (right - left)
            for step in (5, 6, 8)
        }
    )
    heights = [float(mark.get("y")) for mark in shown.values()]
    assert heights == sorted(heights, reverse=True)


def test_folds_are_curves_of_their_own():
    root = parsed(training_curves({"fold 1": training(), "fold 2": training(steps=2)}))
    assert {"fold 1", "fold 2"} <= set(texts(root))
    assert set(tips(root)) == {"fold 1 step 8: 0.500", "fold 2 step 4: 0.500"}
    assert lines(root, "stroke-width: 0.8", f"stroke: {BETTER}") == []  # smoothed ones only
    assert "fold 2 judged: nDCG@10 from 0.500, best 0.500" in root.find(f"{SVG}desc").text


def test_long_curves_are_thinned():
    chance = random.Random(0)
    history = [
        {"stage": "judged", "step": step, "loss": chance.random()} for step in range(1, 3_001)
    ]
    root = parsed(training_curves({"": {"history": history, "evaluations": []}}, ident="c"))
    (raw,) = lines(root, f"stroke: {BETTER}", "stroke-width: 0.8")
    assert 200 < len(raw) <= 400
    assert raw[-1][0] - raw[0][0] == pytest.approx(350, abs=1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluations": []}, "nDCG@10, held-out queries: not recorded"),
        ({"history": []}, "loss: not recorded"),
        ({"history": [], "evaluations": []}, "loss: not recorded"),
    ],
)
def test_a_training_without_history_says_so(changes, said):
    assert said in texts(parsed(training_curves({"": training(**changes)}, ident="c")))


def test_bars_are_as_high_as_their_counts():
    counts = {"0": 200, "1": 40, "2": 1_000}
    svg = bars(counts, highlighted=["1", "2"], axis="grade", ident="b", title="Judgements")
    root = parsed(svg)
    shapes = [
        (path.get("style"), [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", path.get("d"))])
        for path in root.iter(f"{SVG}path")
        if re.search(f"fill: ({BETTER}|{NEUTRAL})", path.get("style", ""))
    ]
    heights = [max(ys) - min(ys) for _, ys in shapes]
    assert [height / heights[0] for height in heights] == pytest.approx([1, 0.2, 5])
    assert [NEUTRAL in style for style, _ in shapes] == [True, False, False]
    assert {"200", "40", "1,000", "0", "1", "2", "grade"} <= set(texts(root))
    assert root.find(f"{SVG}desc").text == "grade 0: 200; grade 1: 40; grade 2: 1,000"


def test_a_share_is_as_high_as_its_value():
    shares = [0.0] * 10 + [0.5] * 10
    svg = share_curve(shares, {10: "0 %", 20: "50 %"}, axis="depth", ident="s", title="Holes")
    (curve,) = lines(parsed(svg), f"stroke: {BETTER}")
    bottom, top = 150, 20
    assert (curve[0][1], curve[-1][1]) == pytest.approx((bottom, (bottom + top) / 2))


def test_reliability_has_a_dot_for_each_bin_on_equal_axes():
    bins = [
        {"predicted": 0.0, "relevant": 0.0, "pairs": 1500},
        {"predicted": 0.2, "relevant": 0.1, "pairs": 1500},
        {"predicted": 0.4, "relevant": 0.5, "pairs": 1499},
    ]
    root = parsed(reliability(bins, brier=0.0412, ident="r"))
    assert "Brier score 0.0412" in texts(root)
    tips = [mark.findtext(f"{SVG}title") for mark in root.iter(f"{SVG}use")]
    tips = [tip for tip in tips if tip]
    assert tips == [
        "1,500 pairs: probability 0.000, relevant 0.000",
        "1,500 pairs: probability 0.200, relevant 0.100",
        "1,499 pairs: probability 0.400, relevant 0.500",
    ]
