"""Folds by query: each query is in one fold, near-duplicate queries in the same one."""

from ranker.dataset.collection import Dataset
from ranker.dataset.splits import stable_hash
from ranker.errors import DataError
from ranker.lexical.near_duplicates import query_families

__all__ = ["fold_of_queries"]


def fold_of_queries(dataset: Dataset, *, folds: int, seed: int = 0) -> dict[str, int]:
    """Return the fold of every judged query, from 0; the folds are of about equal size.

    The largest families of near-duplicates are dealt first, each to the smallest fold, so that
    the sizes differ by no more than the size of a family.  Which fold a query falls in depends
    on the seed, the ids and the texts of the queries, not on their order.

    Raises:
        DataError: there are fewer different questions than folds, or too few to hold some out of
            a fold's training as well.
    """
    texts = {query_id: dataset.queries[query_id].text for query_id in dataset.qrels}
    families = query_families(texts)
    needed = max(folds, 3)
    if len(families) < needed:
        raise DataError(
            f"{dataset.name}: {folds} folds need at least {needed} different questions, got "
            f"{len(families)} ({len(texts)} judged queries; near-duplicates count as one)"
        )
    order = {family[0]: stable_hash(f"fold {seed} {family[0]}") for family in families}
    sizes, questions = [0] * folds, [0] * folds
    fold_of: dict[str, int] = {}
    for family in sorted(families, key=lambda family: (-len(family), order[family[0]])):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(family)
        questions[fold] += 1
        fold_of |= dict.fromkeys(family, fold)
    if len(families) - max(questions) < 2:
        raise DataError(
            f"{dataset.name}: {max(map(len, families))} of {len(texts)} judged queries are one "
            f"question, so of {folds} folds one leaves no second question to learn from; "
            "take more folds"
        )
    return {query_id: fold_of[query_id] for query_id in dataset.qrels}
