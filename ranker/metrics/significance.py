"""How sure a difference is: paired bootstrap, paired randomisation test, Holm's correction.

The unit is the query.  The interval is the percentile bootstrap over queries (Efron 1979; for
search, Sakai, SIGIR 2006), the test flips the sign of each query's difference (Fisher's
randomisation test, recommended for search by Smucker, Allan and Carterette, CIKM 2007), and
several tests are corrected as in Holm, 1979.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.errors import UsageError

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
"""Chance to see a difference that is there, for which `queries_needed` plans."""
TIE = 1e-9
"""Differences up to this are ties: they come from the order of a sum, not from the ranking."""
_EXACT = 13
"""Up to so many queries with a difference, all 2**13 signs are tried instead of drawn."""
_CELLS = 4_000_000
"""Most numbers held at once while resampling, 32 MB."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A paired comparison over the same queries; differences are second minus first.

    Attributes:
        queries: how many.
        mean_difference: mean over the queries.
        interval: 95 % confidence interval of that mean.
        p: two-sided p-value of the paired randomisation test, not corrected.
        wins, ties, losses: queries on which the second is better, equal, worse.
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
        values_b: the same measure of the other one.
        resamples: draws of the bootstrap and of the test.
        seed: of both.

    Raises:
        UsageError: the two do not hold the same queries, or none.
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
        p=_randomisation_p(differences, resamples=resamples, seed=seed),
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
        pairs: names of the baseline and of the one compared with it.
        measure: its name, for the rows.

    Returns:
        A row for each pair: `baseline`, `profile`, `measure`, the fields of `Comparison`, and
        `p_holm`.
    """
    found = [compare(values[baseline], values[name]) for baseline, name in pairs]
    corrected = holm([comparison.p for comparison in found])
    return [
        {
            "baseline": baseline,
            "profile": name,
            "measure": measure,
            **asdict(comparison),
            "interval": list(comparison.interval),
            "p_holm": p_holm,
        }
        for (baseline, name), comparison, p_holm in zip(pairs, found, corrected, strict=True)
    ]


def is_better(row: Mapping[str, Any]) -> bool:
    """Whether a row of `compare_all` says better: by its interval and by its corrected test."""
    return bool(row["interval"][0] > 0 and row["p_holm"] < SIGNIFICANT)


def queries_needed(
    values_a: Mapping[str, float], values_b: Mapping[str, float], *, tests: int = 1
) -> int | None:
    """About how many queries it takes to see the difference found, if it is the true one.

    The usual plan for a paired test by the normal approximation: with a power of 80 %, two-sided
    at 5 %, divided by the number of tests (Sakai, Information Retrieval 2016); and never fewer
    than it takes for all of them winning to be no chance.

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
    """95 % percentile bootstrap intervals of means over queries.

    Args:
        values: [series, queries]; every series is resampled with the same queries.
        resamples: how often.
        seed: of the draws.

    Returns:
        [series, 2], lower and upper end.
    """
    queries = values.shape[1]
    generator = np.random.default_rng(seed)
    share = np.full(queries, 1 / queries)
    # A resample of the queries is how often each of them was drawn.
    means = [
        generator.multinomial(queries, share, size=rows) @ values.T / queries
        for rows in _chunks(resamples, queries)
    ]
    tail = (1 - LEVEL) / 2
    ends: Floats = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T
    return ends


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for all the tests made, in the given order."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


def _randomisation_p(differences: Floats, *, resamples: int, seed: int) -> float:
    """Share of sign patterns whose mean difference is at least as far from 0 as the real one."""
    moved = differences[differences != 0]  # a tie has no sign to flip
    if not moved.size:
        return 1.0
    threshold = abs(float(moved.sum())) * (1 - 1e-12)
    if moved.size <= _EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=moved.size)))
        return float((np.abs(signs @ moved) >= threshold).mean())
    generator = np.random.default_rng(seed)
    extreme = 0
    for rows in _chunks(resamples, moved.size):
        signs = generator.integers(0, 2, size=(rows, moved.size)) * 2.0 - 1.0
        extreme += int((np.abs(signs @ moved) >= threshold).sum())
    # The real pattern is one of those possible, so p is never 0 (Phipson and Smyth 2010).
    return (extreme + 1) / (resamples + 1)


def _chunks(rows: int, columns: int) -> Iterator[int]:
    """Numbers of rows that add up to `rows`, each small enough to be held at once."""
    most = max(1, _CELLS // columns)
    while rows > 0:
        yield min(rows, most)
        rows -= most
