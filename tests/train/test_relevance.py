"""What a training for relevance concludes from queries that the model did not learn from."""

from types import SimpleNamespace
from typing import Any

import pytest

from ranker.train import relevance


def concluded(queries: int, *, min_grade: int = 1) -> dict[str, Any]:
    """Of each query, two of ten documents are relevant and have the best logits; nearly always."""
    qrels = {f"q{n}": {"d0": 2, "d1": 2, "d2": 1} for n in range(queries)}
    bm25 = {q: {f"d{n}": float(n) for n in range(10)} for q in qrels}
    logits = {
        q: {d: 5.0 - int(d[1]) + (4.0 if d == "d9" and at % 5 == 0 else 0.0) for d in row}
        for at, (q, row) in enumerate(bm25.items())
    }
    stages: Any = SimpleNamespace(
        queries=lambda held_out: SimpleNamespace(qrels=qrels, bm25=bm25),
        scores=lambda queries, forward, stage: logits,
        arguments=SimpleNamespace(min_grade=min_grade),
    )
    held_out: Any = SimpleNamespace(qrels=qrels)
    forward: Any = None
    return relevance.conclude(stages, forward, held_out)


def test_held_out_queries_calibrate_the_logit() -> None:
    report = concluded(40, min_grade=2) | {"cv": None}
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
    report = concluded(queries) | {"cv": None}
    assert report["calibration"] is None
    line = f"uncalibrated: {3 * queries} relevant documents of {queries} queries"
    assert line in relevance.summary(report)[2]
