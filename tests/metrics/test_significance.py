"""The statistics against hand-computed values, scipy, and properties that must hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ranker.errors import UsageError
from ranker.metrics.significance import compare, holm, intervals


def keyed(values):
    return {f"q{at}": float(value) for at, value in enumerate(values)}


def test_three_queries_by_hand():
    # Differences 0.1, 0.2, 0.3: of 8 sign patterns only +++ and --- are as far out as 0.6.
    comparison = compare(keyed([0.5, 0.5, 0.5]), keyed([0.6, 0.7, 0.8]))
    assert comparison.p == 2 / 8
    assert comparison.mean_difference == pytest.approx(0.2)
    assert (comparison.queries, comparison.wins, comparison.ties, comparison.losses) == (3, 3, 0, 0)
    # Of 27 resamples one has the mean 0.1 and one 0.3: 3.7 % each, more than the tail of 2.5 %.
    assert comparison.interval == pytest.approx((0.1, 0.3))


def test_a_loss_is_negative_and_a_tie_is_a_tie():
    comparison = compare(keyed([0.9, 0.3, 0.1 + 0.2]), keyed([0.4, 0.3, 0.3]))
    assert (comparison.wins, comparison.ties, comparison.losses) == (0, 2, 1)
    assert comparison.mean_difference == pytest.approx(-0.5 / 3)
    assert comparison.p == 1.0  # one difference: both signs are as far out


def test_equal_profiles_do_not_differ():
    comparison = compare(keyed([0.2, 0.4]), keyed([0.2, 0.4]))
    assert (comparison.mean_difference, comparison.interval, comparison.p) == (0.0, (0.0, 0.0), 1.0)


def test_exact_p_equals_scipy():
    draw = np.random.default_rng(3)
    a, b = draw.random(9), draw.random(9) + 0.15
    truth = stats.permutation_test(
        (b, a), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert compare(keyed(a), keyed(b)).p == pytest.approx(truth.pvalue, abs=1e-12)


def test_sampled_p_and_interval_are_close_to_more_resamples():
    draw = np.random.default_rng(5)
    a = draw.random(60)
    b = a + draw.normal(0.05, 0.2, 60)
    comparison = compare(keyed(a), keyed(b))
    mean = lambda x, axis: np.mean(x, axis=axis)  # noqa: E731
    truth = stats.permutation_test(
        (b - a,), mean, permutation_type="samples", n_resamples=30_000, rng=1, vectorized=True
    )
    assert comparison.p == pytest.approx(truth.pvalue, abs=0.015)
    interval = stats.bootstrap(
        (b - a,), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    assert comparison.interval == pytest.approx(tuple(interval), abs=0.004)


def test_exact_and_sampled_signs_agree_at_the_limit():
    draw = np.random.default_rng(8)
    differences = draw.normal(0.3, 0.6, 14)
    drawn = compare(keyed(np.zeros(14)), keyed(differences)).p
    signs = 1 - 2 * ((np.arange(2**14)[:, None] >> np.arange(14)) & 1)
    exact = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12).mean()
    assert drawn == pytest.approx(exact, abs=0.012)


def test_a_certain_difference_has_the_smallest_p_but_not_zero():
    comparison = compare(keyed(np.zeros(40)), keyed(np.full(40, 0.5)))
    assert comparison.p == pytest.approx(1 / 10_001)
    assert comparison.interval == (0.5, 0.5)


def test_the_same_seed_gives_the_same_figures():
    draw = np.random.default_rng(0)
    a, b = keyed(draw.random(30)), keyed(draw.random(30))
    assert compare(a, b) == compare(a, b)
    assert compare(a, b).interval != compare(a, b, seed=1).interval


def test_many_queries_are_resampled_in_chunks_with_the_same_spread():
    values = np.random.default_rng(0).random((1, 3_000))
    (low, high), sem = intervals(values, resamples=2_000)[0], values.std() / np.sqrt(3_000)
    assert high - low == pytest.approx(2 * 1.96 * sem, rel=0.08)


def test_intervals_of_several_series_are_those_of_each():
    values = np.random.default_rng(1).random((3, 25))
    together = intervals(values)
    assert together.shape == (3, 2)
    assert together[1] == pytest.approx(intervals(values[1:2])[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_swapping_the_sides_flips_the_signs(pairs):
    a, b = keyed(x for x, _ in pairs), keyed(y for _, y in pairs)
    there, back = compare(a, b, resamples=200), compare(b, a, resamples=200)
    assert there.mean_difference == pytest.approx(-back.mean_difference, abs=1e-12)
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.p == pytest.approx(back.p)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=1e-9)
    assert there.interval[0] - 1e-9 <= there.interval[1]
    assert there.wins + there.ties + there.losses == there.queries == len(pairs)
    assert 0 < there.p <= 1


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        # Holm's example by hand: 0.01·3, max(0.02·2, 0.03), max(0.03·1, 0.04), in given order.
        ([0.03, 0.01, 0.02], [0.04, 0.03, 0.04]),
        ([0.6, 0.5], [1.0, 1.0]),
    ],
)
def test_holm_by_hand(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_and_keeps_their_order(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)
    assert min(corrected) == pytest.approx(min(1.0, len(p_values) * min(p_values)))


@pytest.mark.parametrize("other", [{}, {"q0": 1.0}, {"q0": 1.0, "x": 0.5}])
def test_different_queries_are_rejected(other):
    with pytest.raises(UsageError, match=r"expected values of the same queries, got 2 and \d"):
        compare(keyed([0.1, 0.2]), other)
