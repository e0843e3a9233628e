"""Probabilities against the ones that the grades were drawn from, and against counts by hand."""

import math
import random
import re

import pytest

from ranker.metrics.calibration import calibrate, parts_of

DEPTH = 20


def drawn(slope: float, intercept: float, *, queries: int, seed: int = 0):
    """Grades drawn from known probabilities, and the logits."""
    draw = random.Random(seed)
    qrels, logits = {}, {}
    for q in range(queries):
        row = {f"d{n}": draw.gauss(2, 3) for n in range(DEPTH)}
        share = {d: 1 / (1 + math.exp(-slope * x - intercept)) for d, x in row.items()}
        logits[f"q{q}"] = row
        qrels[f"q{q}"] = {d: int(draw.random() < p) for d, p in share.items()}
    return qrels, logits


def separated(queries: int, gap: float = 5.0):
    """Two relevant documents a query, above all others by `gap`."""
    row = {f"d{n}": gap + n if n < 2 else -float(n) for n in range(DEPTH)}
    qrels = {f"q{q}": {"d0": 1, "d1": 1} for q in range(queries)}
    return qrels, dict.fromkeys(qrels, row)


def learned(qrels, logits, *, min_grade=1):
    return calibrate(qrels, logits, parts_of(qrels), min_grade=min_grade)


@pytest.mark.parametrize(("slope", "intercept"), [(0.8, -2.0), (2.5, 1.0), (0.05, -1.0)])
def test_the_parameters_that_grades_were_drawn_from_are_found(slope, intercept) -> None:
    found = learned(*drawn(slope, intercept, queries=600))["calibration"]
    assert found["slope"] == pytest.approx(slope, abs=0.06 * slope + 0.02)
    assert found["intercept"] == pytest.approx(intercept, abs=0.15)
    assert found["pairs"] == 600 * DEPTH
    for row in found["reliability"]:
        assert row["pairs"] == 1200 and row["relevant"] == pytest.approx(row["predicted"], abs=0.05)
    assert found["brier"] <= found["base_rate_brier"]


def test_the_gradient_is_zero_at_what_is_found() -> None:
    """The optimum by its definition: Platt's targets have the mean and the moment of the fit."""
    qrels, logits = drawn(0.7, -1.5, queries=80)
    found = learned(qrels, logits)["calibration"]
    pairs = [(x, qrels[q][d]) for q, row in logits.items() for d, x in row.items()]
    positive = sum(grade for _, grade in pairs)
    high, low = (positive + 1) / (positive + 2), 1 / (len(pairs) - positive + 2)
    errors = [
        1 / (1 + math.exp(-found["slope"] * x - found["intercept"])) - (high if grade else low)
        for x, grade in pairs
    ]
    assert sum(errors) / len(pairs) == pytest.approx(0, abs=1e-5)
    moment = sum(error * x for error, (x, _) in zip(errors, pairs, strict=True))
    assert moment / len(pairs) == pytest.approx(0, abs=1e-4)


def test_the_scale_of_the_logits_does_not_matter() -> None:
    qrels, logits = drawn(0.8, -2.0, queries=100)
    far = {q: {d: 1e4 * x + 1e6 for d, x in row.items()} for q, row in logits.items()}
    near, same = learned(qrels, logits)["calibration"], learned(qrels, far)["calibration"]
    assert same["slope"] == pytest.approx(near["slope"] / 1e4, rel=1e-4)
    assert same["brier"] == pytest.approx(near["brier"], abs=1e-8)


def test_a_perfect_ranking_of_few_queries_stays_finite() -> None:
    found = learned(*separated(30))["calibration"]
    assert 0 < found["slope"] < 100 and math.isfinite(found["intercept"])
    assert found["brier"] < 0.001 < found["base_rate_brier"]
    worst = found["slope"] * 5.0 + found["intercept"]
    assert 0.9 < 1 / (1 + math.exp(-worst)) < 1


def test_thresholds_count_what_they_keep() -> None:
    qrels, logits = separated(40)
    logits = dict(logits)
    for q in ("q0", "q1", "q2", "q3"):  # nothing relevant, and no document above
        qrels[q], logits[q] = {}, {d: -30.0 for d in logits[q]}
    logits["q4"] = {}  # nothing was found
    rows = {row["probability"]: row for row in learned(qrels, logits)["calibration"]["thresholds"]}
    assert rows[0.5] == {"probability": 0.5, "precision": 1.0, "pairs": 70, "queries": 35 / 40}


def test_a_threshold_that_nothing_reaches_has_no_precision() -> None:
    rows = learned(*drawn(0.1, -3.0, queries=200))["calibration"]["thresholds"]
    assert rows[-1]["precision"] is None and rows[-1]["pairs"] == rows[-1]["queries"] == 0


def test_a_part_is_measured_with_a_fit_on_the_others() -> None:
    """The second part's logits are shifted, as another model's may be: its figures suffer."""
    qrels, logits = drawn(1.0, -2.0, queries=200)
    parts = {q: at % 2 for at, q in enumerate(qrels)}
    shifted = {
        q: {d: x + 6 * parts[q] for d, x in row.items()} for q, row in logits.items()
    }  # fmt: skip
    honest = calibrate(qrels, logits, parts, min_grade=1)["calibration"]
    moved = calibrate(qrels, shifted, parts, min_grade=1)["calibration"]
    mixed = calibrate(qrels, shifted, parts_of(qrels), min_grade=1)["calibration"]
    assert honest["brier"] < mixed["brier"] < moved["brier"]
    assert moved["brier"] > moved["base_rate_brier"], "a constant is better, and the report says so"


def test_grades_below_the_least_and_unjudged_documents_are_not_relevant() -> None:
    qrels, logits = separated(40)
    graded = {q: {"d0": 3, "d1": 1, "d2": 1} for q in qrels}
    found = learned({q: {"d0": 3} for q in qrels} | {"q0": {"d0": 3, "d1": 3}}, logits)
    assert found["calibration"] is None, "41 relevant documents are too few"
    qrels = graded | {f"q{n}": {"d0": 2, "d1": 2} for n in range(20)}
    assert learned(qrels, logits, min_grade=2)["calibration"]["relevant"] == 20 + 2 * 20


@pytest.mark.parametrize(
    ("qrels_and_logits", "reason"),
    [
        (separated(29), "58 relevant documents of 29 queries are among those reranked"),
        (({"q": {"d": 1}}, {"q": {}}), "only 0 relevant .* of 0 queries .* at least 50 of"),
        (drawn(-1.0, -1.0, queries=100), "a higher logit is not more often relevant"),
        (
            (separated(40)[0], {f"q{n}": {"d0": 0.5, "d1": 0.5, "d2": 0.5} for n in range(40)}),
            r"not more often relevant \(slope 0\)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_calibrated_has_a_reason(qrels_and_logits, reason) -> None:
    found = learned(*qrels_and_logits)
    assert found["calibration"] is None
    assert re.search(reason, found["uncalibrated"])
