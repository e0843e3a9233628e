from ranker.metrics.blend import UNLEARNED, WEIGHTS, blend_run, held_out_figures, learn_weight

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


def test_the_weight_balances_what_each_side_knows() -> None:
    """Documents and grades drawn from a known weight: it is found again."""
    import numpy as np

    draw = np.random.default_rng(0)
    for true_weight in (0.5, 2.0, 6.0):
        qrels, bm25, logits = {}, {}, {}
        for q in [f"q{n}" for n in range(300)]:
            first, second = draw.normal(10, 3, 20), draw.normal(0, 2, 20)
            scores = 1.0 * (first + true_weight * second)
            share = np.exp(scores - scores.max())
            answer = draw.choice(20, p=share / share.sum())
            qrels[q] = {f"d{answer}": 1}
            bm25[q] = {f"d{n}": float(score) for n, score in enumerate(first)}
            logits[q] = {f"d{n}": float(score) for n, score in enumerate(second)}
        near = WEIGHTS.index(learn_weight(qrels, bm25, logits)) - WEIGHTS.index(true_weight)
        assert abs(near) <= 1


def test_the_blend_figure_does_not_see_its_own_queries() -> None:
    """With one query each way, the weight learned on the other is wrong for this one."""
    qrels = {"q1": {"a": 1, "b": 0}, "q2": {"a": 1, "b": 0}}
    bm25 = {"q1": {"a": 0.0, "b": 5.0}, "q2": {"a": 5.0, "b": 0.0}}
    logits = {"q1": {"a": 1.0, "b": 0.0}, "q2": {"a": 0.0, "b": 1.0}}
    figures = held_out_figures(qrels, bm25, logits)
    assert figures.blend < 0.7 and figures.blend_weight in WEIGHTS


def test_queries_without_a_relevant_hit_have_no_say() -> None:
    qrels = {"q1": {"z": 1}, "q2": {"a": 1}}
    bm25 = {"q1": {"a": 1.0, "b": 2.0}, "q2": {"a": 1.0, "b": 2.0}}
    logits = {"q1": {"a": -9.0, "b": 9.0}, "q2": {"a": 1.0, "b": 0.0}}
    assert learn_weight(qrels, bm25, logits) == learn_weight(
        {"q2": qrels["q2"]}, {"q2": bm25["q2"]}, {"q2": logits["q2"]}
    )


def test_where_nothing_can_be_learned_both_sides_weigh_the_same() -> None:
    """No query with an answer among its documents says anything about the weight."""
    runs = {q: {"a": 2.0, "b": 1.0} for q in QUERIES}
    assert learn_weight({q: {"elsewhere": 1} for q in QUERIES}, runs, runs) == UNLEARNED
    qrels = {"q0": {"b": 1}, "q1": {"elsewhere": 1}}
    bm25 = {q: {"a": 1.2, "b": 1.0} for q in qrels}
    logits = {q: {"a": -3.0, "b": 3.0} for q in qrels}
    # Blended with what the other query chose, which is nothing, the answer still comes first.
    assert held_out_figures(qrels, bm25, logits).blend == 0.5
