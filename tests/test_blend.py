import pytest

from ranker.blend import WEIGHTS, blend_run, held_out_figures, learn_weight

QUERIES = [f"q{n}" for n in range(10)]


def test_blend_is_the_raw_sum() -> None:
    assert blend_run({"q": {"a": 2.0, "b": 1.0}}, {"q": {"a": -1.0, "b": 3.0}}, 0.5) == {
        "q": {"a": 1.5, "b": 2.5}
    }


def test_a_perfect_cross_encoder_is_recommended() -> None:
    qrels = {q: {"a": 0, "b": 1} for q in QUERIES}
    bm25 = {q: {"a": 2.0, "b": 1.0} for q in QUERIES}
    logits = {q: {"a": -3.0, "b": 3.0} for q in QUERIES}
    figures = held_out_figures(qrels, bm25, logits)
    assert figures.cross == 1 and figures.bm25 < 1 and figures.queries == 10
    assert figures.recommended_profile == "cross"


def test_where_nothing_is_better_bm25_is_recommended() -> None:
    qrels = {q: {"a": 1, "b": 0} for q in QUERIES}
    bm25 = {q: {"a": 2.0, "b": 1.0} for q in QUERIES}
    logits = {q: {"a": -3.0, "b": 3.0} for q in QUERIES}
    figures = held_out_figures(qrels, bm25, logits)
    assert figures.bm25 == 1 and figures.recommended_profile == "bm25"


def test_the_weight_balances_two_halves() -> None:
    """Half of the queries need the logit to win by 1, half need BM25 to win by 3."""
    qrels, bm25, logits = {}, {}, {}
    for n, q in enumerate(QUERIES):
        qrels[q] = {"a": 1, "b": 0}
        gap = 1.0 if n % 2 else -3.0
        bm25[q] = {"a": 5.0, "b": 5.0 + gap}
        logits[q] = {"a": 1.0 if n % 2 else 0.0, "b": 0.0 if n % 2 else 1.0}
    # a wins where weight > 1 (odd) and where weight < 3 (even)
    assert 1.0 < learn_weight(qrels, bm25, logits) < 3.0
    assert held_out_figures(qrels, bm25, logits).blend == pytest.approx(1.0)


def test_the_blend_figure_does_not_see_its_own_queries() -> None:
    """With one query each way, the weight learned on the other is wrong for this one."""
    qrels = {"q1": {"a": 1, "b": 0}, "q2": {"a": 1, "b": 0}}
    bm25 = {"q1": {"a": 0.0, "b": 5.0}, "q2": {"a": 5.0, "b": 0.0}}
    logits = {"q1": {"a": 1.0, "b": 0.0}, "q2": {"a": 0.0, "b": 1.0}}
    figures = held_out_figures(qrels, bm25, logits, folds=2)
    assert figures.blend < 0.7 and figures.blend_weight in WEIGHTS
