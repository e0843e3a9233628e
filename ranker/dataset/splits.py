"""Splits by query: near-duplicate queries stay on one side, the same seed gives the same sides."""

import hashlib
import logging
from collections.abc import Collection
from dataclasses import replace

from ranker.dataset.collection import Dataset
from ranker.errors import DataError, UsageError
from ranker.lexical.near_duplicates import query_families

__all__ = ["split_queries", "stable_hash", "with_queries"]

logger = logging.getLogger(__name__)


def split_queries(
    dataset: Dataset, *, held_out: float = 0.2, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Split the judged queries into a side to train on and a side to measure on.

    Both sides keep all documents.  Which side a query falls on depends on the seed, the ids and
    the texts of the queries, not on their order.

    Args:
        dataset: judged data.
        held_out: share of the queries on the second side, between 0 and 1; families of
            near-duplicates are kept together, so it may come out smaller, or larger if even the
            smallest family is.
        seed: decides which queries are held out.

    Raises:
        DataError: all queries are near-duplicates of each other, or there is only one.
        UsageError: `held_out` is not between 0 and 1.
    """
    if not 0 < held_out < 1:
        raise UsageError(f"held_out is {held_out}; expected a share above 0 and below 1")
    texts = {query_id: dataset.queries[query_id].text for query_id in dataset.qrels}
    families = query_families(texts)
    if len(families) < 2:
        reason = (
            "it has only one judged query"
            if len(texts) == 1
            else f"its {len(texts)} judged queries are one question in different words"
        )
        raise DataError(
            f"{dataset.name}: cannot hold queries out: {reason}; expected at least two different "
            "questions"
        )
    chosen = _chosen(families, most=max(1, round(held_out * len(texts))), seed=seed)
    logger.info("%s: %d of %d queries held out", dataset.name, len(chosen), len(texts))
    return (
        with_queries(dataset, dataset.qrels.keys() - chosen, side="train"),
        with_queries(dataset, chosen, side="held-out"),
    )


def _chosen(families: list[list[str]], *, most: int, seed: int) -> set[str]:
    """Return whole families in an order that the seed decides, or at least the smallest one."""
    order = sorted(families, key=lambda family: stable_hash(f"{seed} {family[0]}"))
    most = min(most, sum(map(len, families)) - 1)
    chosen: set[str] = set()
    for family in order:
        if len(chosen) + len(family) <= most:
            chosen |= set(family)
    smallest = min(order, key=len)
    return chosen or set(smallest)


def stable_hash(text: str) -> bytes:
    """Return the hash that families are ordered by: a seed and an id decide, not a position."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def with_queries(dataset: Dataset, query_ids: Collection[str], *, side: str) -> Dataset:
    """Return the dataset with these judged queries only, and with all of its documents."""
    kept = [id_ for id_ in dataset.queries if id_ in query_ids and id_ in dataset.qrels]
    return replace(
        dataset,
        queries={query_id: dataset.queries[query_id] for query_id in kept},
        qrels={query_id: dataset.qrels[query_id] for query_id in kept},
        split=f"{dataset.split} {side}" if dataset.split else side,
    )
