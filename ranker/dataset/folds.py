"""Folds by query: each query is in one fold, near-duplicate queries in the same one."""

from ranker.dataset.collection import Dataset
from ranker.dataset.splits import families, stable_hash
from ranker.errors import DataError

__all__ = ["fold_of_queries"]


def fold_of_queries(dataset: Dataset, *, folds: int, seed: int = 0) -> dict[str, int]:
    """The fold of every judged query, from 0; the folds are of about equal size.

    The largest families of near-duplicates are dealt first, each to the smallest fold, so that
    the sizes differ by no more than the size of a family.  Which fold a query falls in depends
    on the seed, the ids and the texts of the queries, not on their order.

    Raises:
        DataError: there are fewer different questions than folds, or too few to hold some out of
            a fold's training as well.
    """
    groups = families({query_id: dataset.queries[query_id].text for query_id in dataset.qrels})
    needed = max(folds, 3)
    if len(groups) < needed:
        raise DataError(
            f"{dataset.name}: {folds} folds need at least {needed} different questions, got "
            f"{len(groups)} ({len(dataset.qrels)} judged queries; near-duplicates count as one)"
        )
    drawn = {group[0]: stable_hash(f"fold {seed} {group[0]}") for group in groups}
    sizes, questions = [0] * folds, [0] * folds
    found: dict[str, int] = {}
    for group in sorted(groups, key=lambda group: (-len(group), drawn[group[0]])):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(group)
        questions[fold] += 1
        found |= dict.fromkeys(group, fold)
    if len(groups) - max(questions) < 2:
        raise DataError(
            f"{dataset.name}: {max(map(len, groups))} of {len(dataset.qrels)} judged queries are "
            f"one question, so of {folds} folds one leaves no second question to learn from; "
            "take more folds"
        )
    return {query_id: found[query_id] for query_id in dataset.qrels}
