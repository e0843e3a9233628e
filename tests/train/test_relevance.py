"""What a training for relevance concludes from queries that the model did not learn from."""

from types import SimpleNamespace
from typing import Any

import pytest

from ranker.train import relevance, stages
from ranker.train.stages import Start


def concluded(queries: int, *, min_grade: int = 1) -> dict[str, Any]:
    """Of each query, two of ten documents are relevant and have the best logits; nearly always."""
    qrels = {f"q{n}": {"d0": 2, "d1": 2, "d2": 1} for n in range(queries)}
    bm25 = {q: {f"d{n}": float(n) for n in range(10)} for q in qrels}
    logits = {
        q: {d: 5.0 - int(d[1]) + (4.0 if d == "d9" and at % 5 == 0 else 0.0) for d in row}
        for at, (q, row) in enumerate(bm25.items())
    }
    made: Any = SimpleNamespace(
        queries=lambda held_out: SimpleNamespace(qrels=qrels, bm25=bm25),
        scores=lambda queries, forward, stage: logits,
        arguments=SimpleNamespace(min_grade=min_grade),
    )
    held_out: Any = SimpleNamespace(qrels=qrels)
    forward: Any = None
    return relevance.conclude(made, forward, held_out)


def test_held_out_queries_calibrate_the_logit() -> None:
    report = concluded(40, min_grade=2) | {"cv": None, "start": None}
    found = report["calibration"]
    assert (found["pairs"], found["relevant"], found["min_grade"]) == (400, 80, 2)
    assert found["slope"] > 0 and found["brier"] < found["base_rate_brier"]
    assert report["uncalibrated"] is None
    *_, last = relevance.summary(report)[2].splitlines()
    assert last == (
        f"calibration: probability = sigmoid({found['slope']} * logit "
        f"- {abs(found['intercept'])}), Brier score {found['brier']:.4f} "
        f"(base rate alone: {found['base_rate_brier']:.4f})"
    )


@pytest.mark.parametrize("queries", [8, 29])
def test_few_held_out_queries_do_not(queries: int) -> None:
    report = concluded(queries) | {"cv": None, "start": None}
    assert report["calibration"] is None
    line = f"uncalibrated: only {3 * queries} relevant documents of {queries} queries"
    assert line in relevance.summary(report)[2]


def test_the_summary_says_what_the_judged_stage_started_from() -> None:
    chosen = {"stage": "base", "ndcg@10": {"base": 0.42, "pretrained": 0.33}}
    lines = relevance.summary(concluded(8) | {"cv": None, "start": chosen})[2].splitlines()
    assert lines[0] == (
        "learning from judged queries started from: base "
        "(nDCG@10 of base 0.4200, pretrained 0.3300)"
    )


RIGHT, WRONG = {"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 2.0}


def test_judged_queries_say_what_to_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}}
    base = {"q1": RIGHT, "q2": RIGHT, "q3": WRONG}
    pretrained = {"q1": WRONG, "q2": RIGHT, "q3": RIGHT}
    start = Start({"base": base, "pretrained": pretrained}, {}, [])
    assert start.best(qrels) == "base"  # the first of equals
    assert start.best({"q1": {"a": 1}}) == "base"
    assert start.best({"q3": {"a": 1}}) == "pretrained"
    with monkeypatch.context() as patched:
        patched.setattr(stages, "ROUNDING", 0.5)  # which the gain does not exceed
        assert start.best({"q3": {"a": 1}}) == "base"
    report = start.report({"q2": {"a": 1}, "q3": {"a": 1}})
    assert report is not None and report["stage"] == "pretrained"
    assert report["ndcg@10"] == pytest.approx({"base": (1 + 0.63093) / 2, "pretrained": 1})
    assert Start({"base": {}}, {}, []).report(qrels) is None
