"""How certain a difference is: paired bootstrap, paired randomization test, Holm's correction.

The unit is the query.  The interval is the percentile bootstrap over queries (Efron 1979; for
search, Sakai, SIGIR 2006).  The test flips the signs of the queries' differences (Fisher's
randomization test, recommended for search by Smucker, Allan and Carterette, CIKM 2007).  Several
tests are corrected as in Holm, 1979.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.errors import UsageError, require

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "SIGNIFICANT",
    "Comparison",
    "compare",
    "compare_all",
    "holm",
    "intervals",
    "is_better",
    "queries_needed",
]

RESAMPLES = 10_000
LEVEL = 0.95
SIGNIFICANT = 0.05
POWER = 0.8
"""Probability of detecting a true difference for which `queries_needed` plans."""
TIE = 1e-9
"""Differences up to this are ties: they come from the order of a sum, not from the ranking."""
_CELLS = 4_000_000
"""Most numbers held at once while resampling, 32 MB."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A paired comparison over the same queries; differences are second minus first.

    Attributes:
        queries: number of queries.
        mean_difference: mean over the queries.
        interval: 95 % confidence interval of that mean.
        p: two-sided p-value of the paired randomization test, not corrected.
        wins, ties, losses: number of queries on which the second is better, equal, worse.
    """

    queries: int
    mean_difference: float
    interval: tuple[float, float]
    p: float
    wins: int
    ties: int
    losses: int


def compare(
    values_a: Mapping[str, float],
    values_b: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare b with a over the same queries.

    Args:
        values_a: a measure by query id, the baseline.
        values_b: the same measure of the run that is compared with it.
        resamples: resamples of the bootstrap and of the test; the test is exact where there are
            no more patterns of signs than that.
        seed: of both.

    Raises:
        UsageError: the two do not hold the same queries, or none.
        MissingExtra: scipy is not installed.
    """
    if not values_a or values_a.keys() != values_b.keys():
        raise UsageError(
            f"expected values of the same queries, got {len(values_a)} and {len(values_b)} "
            f"with {len(values_a.keys() & values_b.keys())} in common"
        )
    differences = np.array([values_b[query_id] - values_a[query_id] for query_id in values_a])
    differences[np.abs(differences) <= TIE] = 0.0
    low, high = intervals(differences[np.newaxis], resamples=resamples, seed=seed)[0]
    return Comparison(
        queries=len(differences),
        mean_difference=float(differences.mean()),
        interval=(float(low), float(high)),
        p=_randomization_p(differences, resamples=resamples, seed=seed),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
    )


def compare_all(
    values: Mapping[str, Mapping[str, float]], pairs: Sequence[tuple[str, str]], *, measure: str
) -> list[dict[str, Any]]:
    """Compare pairs of runs; the p-values are corrected for all of the pairs together.

    Args:
        values: a measure by query id, by name of the run.
        pairs: names of the baseline and of the run compared with it.
        measure: the measure's name, for the rows.

    Returns:
        A row for each pair: `baseline`, `profile`, `measure`, the fields of `Comparison`, and
        `p_holm`.
    """
    results = [compare(values[baseline], values[name]) for baseline, name in pairs]
    corrected = holm([comparison.p for comparison in results])
    return [
        {
            "baseline": baseline,
            "profile": name,
            "measure": measure,
            **asdict(comparison),
            "interval": list(comparison.interval),
            "p_holm": p_holm,
        }
        for (baseline, name), comparison, p_holm in zip(pairs, results, corrected, strict=True)
    ]


def is_better(row: Mapping[str, Any]) -> bool:
    """Tell if a row of `compare_all` is better, by its interval and by its corrected test."""
    return bool(row["interval"][0] > 0 and row["p_holm"] < SIGNIFICANT)


def queries_needed(
    values_a: Mapping[str, float], values_b: Mapping[str, float], *, tests: int = 1
) -> int | None:
    """Estimate how many queries it takes to detect the observed difference, if it is the true one.

    The usual plan for a paired test by the normal approximation: with a power of 80 %, two-sided
    at 5 %, divided by the number of tests (Sakai, Information Retrieval 2016); and never fewer
    than the test needs to be significant when all of them are wins.

    Returns:
        None where b is not better than a, so that no number of queries would show it.
    """
    differences = np.array([values_b[query_id] - values_a[query_id] for query_id in values_a])
    mean = float(differences.mean())
    if mean <= TIE:
        return None
    normal = NormalDist()
    distance = normal.inv_cdf(1 - SIGNIFICANT / tests / 2) + normal.inv_cdf(POWER)
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    least = math.floor(1 - math.log2(SIGNIFICANT / tests)) + 1  # p is at least 2 / 2**queries
    return max(len(differences), least, math.ceil((distance * spread / mean) ** 2))


def intervals(values: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Compute 95 % percentile bootstrap intervals of means over queries.

    Args:
        values: [series, queries]; every series is resampled with the same queries.
        resamples: number of resamples.
        seed: of the resamples.

    Returns:
        [series, 2], lower and upper end.

    Raises:
        MissingExtra: scipy is not installed.
    """
    if values.shape[1] == 1:  # scipy refuses to resample a single query
        return np.repeat(values, 2, axis=1)
    ends = require("scipy.stats", extra="evaluate").bootstrap(
        (values,),
        np.mean,
        axis=1,
        method="percentile",
        confidence_level=LEVEL,
        n_resamples=resamples,
        batch=max(1, _CELLS // values.size),
        rng=seed,
    )
    return np.stack(ends.confidence_interval, axis=1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for all the tests made; the order is kept."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


def _randomization_p(differences: Floats, *, resamples: int, seed: int) -> float:
    """Compute the share of sign patterns whose mean is at least as far from 0 as the real one.

    Where patterns are sampled, the real one is counted among them, so p is never 0 (Phipson and
    Smyth 2010).
    """
    moved = differences[differences != 0]  # a tie has no sign to flip
    if moved.size < 2:  # of a single difference both signs are as far from 0
        return 1.0
    result = require("scipy.stats", extra="evaluate").permutation_test(
        (moved,),
        lambda signed, axis: np.abs(signed.sum(axis=axis)),
        permutation_type="samples",
        alternative="greater",  # of the distance from 0, so two-sided
        n_resamples=resamples,
        batch=max(1, _CELLS // moved.size),
        rng=seed,
    )
    return float(result.pvalue)
