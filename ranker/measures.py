"""Relevance measures, as `ir_measures` computes them (nDCG as trec_eval defines it)."""

from collections.abc import Mapping, Sequence

from ranker.errors import DataError, require

__all__ = ["DEFAULT", "Qrels", "Run", "aggregate", "ndcg_at_10", "per_query"]

Qrels = Mapping[str, Mapping[str, int]]
"""query id -> document id -> relevance."""
Run = Mapping[str, Mapping[str, float]]
"""query id -> document id -> score."""

DEFAULT = ("nDCG@10", "AP", "RR", "P@10", "R@100", "Judged@10")


def per_query(qrels: Qrels, run: Run, measures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Values by measure and query id, for every judged query; a query without hits counts 0.

    Raises:
        DataError: a measure's name is unknown, or nothing is judged.
    """
    if not qrels:
        raise DataError("no judged queries to measure")
    library = require("ir_measures", extra="evaluate")
    parsed = {}
    for name in measures:
        try:
            parsed[library.parse_measure(name)] = name
        except (NameError, ValueError, SyntaxError) as error:
            raise DataError(f"unknown measure {name!r}; examples: {', '.join(DEFAULT)}") from error
    values: dict[str, dict[str, float]] = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    for metric in library.iter_calc(list(parsed), _plain(qrels), _plain(run)):
        values[parsed[metric.measure]][metric.query_id] = float(metric.value)
    return values


def aggregate(qrels: Qrels, run: Run, measures: Sequence[str]) -> dict[str, float]:
    """Mean of each measure over all judged queries."""
    values = per_query(qrels, run, measures)
    return {name: sum(by_query.values()) / len(by_query) for name, by_query in values.items()}


def ndcg_at_10(qrels: Qrels, run: Run) -> float:
    """Mean nDCG@10 over all judged queries."""
    return aggregate(qrels, run, ["nDCG@10"])["nDCG@10"]


def _plain(table: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {query_id: dict(row) for query_id, row in table.items()}
