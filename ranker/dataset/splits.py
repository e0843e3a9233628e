"""Splits by query: near-duplicate queries stay on one side, the same seed gives the same sides."""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from ranker.dataset.collection import Dataset
from ranker.errors import DataError, UsageError

__all__ = ["families", "stable_hash", "near_copies", "split_queries", "with_queries"]

logger = logging.getLogger(__name__)

Terms = frozenset[str]


def split_queries(
    dataset: Dataset, *, held_out: float = 0.2, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Part the judged queries into a side to train on and a side to measure on.

    Both sides keep all documents.  Which side a query falls on depends on the seed, the ids and
    the texts of the queries, not on their order.

    Args:
        dataset: judged data.
        held_out: share of the queries on the second side, between 0 and 1; families of
            near-duplicates are not torn apart, so it may come out smaller, or larger when even
            the smallest family is.
        seed: other seeds, other sides.

    Raises:
        DataError: all queries are near-duplicates of each other, or there is only one.
        UsageError: `held_out` is not between 0 and 1.
    """
    if not 0 < held_out < 1:
        raise UsageError(f"held_out is {held_out}; expected a share above 0 and below 1")
    texts = {query_id: dataset.queries[query_id].text for query_id in dataset.qrels}
    groups = families(texts)
    if len(groups) < 2:
        found = (
            "it has only one judged query"
            if len(texts) == 1
            else f"its {len(texts)} judged queries are one question in different words"
        )
        raise DataError(
            f"{dataset.name}: cannot hold queries out: {found}; expected at least two different "
            "questions"
        )
    chosen = _chosen(groups, share=held_out * len(texts), seed=seed)
    logger.info("%s: %d of %d queries held out", dataset.name, len(chosen), len(texts))
    return (
        with_queries(dataset, dataset.qrels.keys() - chosen, side="train"),
        with_queries(dataset, chosen, side="held-out"),
    )


def families(texts: Mapping[str, str]) -> list[list[str]]:
    """Ids of texts in groups of near-duplicates, each in order, the groups in order of first id.

    Two texts are near-duplicates if their index terms are the same set, or their sets have a
    Jaccard index of at least 0.8; groups are what such pairs connect.
    """
    alike: dict[Terms, list[str]] = defaultdict(list)
    for query_id in sorted(texts):
        alike[_terms(texts[query_id])].append(query_id)
    sets = list(alike)
    leader = list(range(len(sets)))
    for one, other in _near_duplicates(sets):
        leader[_root(leader, other)] = _root(leader, one)
    joined: dict[int, list[str]] = defaultdict(list)
    for row, group in enumerate(alike.values()):
        joined[_root(leader, row)] += group
    return sorted(sorted(group) for group in joined.values())


def near_copies(texts: Collection[str], originals: Collection[str]) -> set[str]:
    """Those of the texts that are near-duplicates of an original, as `families` says it."""
    wanted = dict.fromkeys(_terms(text) for text in originals)
    terms_of = {text: _terms(text) for text in texts}
    sets = list({**wanted, **dict.fromkeys(terms_of.values())})
    copies = set(wanted)
    for one, other in _near_duplicates(sets):  # the originals come first
        if one < len(wanted):
            copies.add(sets[other])
    return {text for text, terms in terms_of.items() if terms in copies}


def _terms(text: str) -> Terms:
    # Here, for it takes half a second to load and only splitting needs it.
    from ranker.lexical.terms import terms

    return frozenset(terms(text))


def _near_duplicates(sets: list[Terms]) -> Iterator[tuple[int, int]]:
    """Pairs of different sets with a Jaccard index of at least 0.8.

    Such sets share one of their rarest |s| - ceil(0.8 |s|) + 1 terms (prefix filtering,
    Chaudhuri et al. 2006), so only sets that do are compared.
    """
    frequency = Counter(term for terms in sets for term in terms)
    holders: dict[str, list[int]] = defaultdict(list)
    for row, terms in enumerate(sets):
        needed = -(-4 * len(terms) // 5)
        rarest = sorted(terms, key=lambda term: (frequency[term], term))[: len(terms) - needed + 1]
        for other in {other for term in rarest for other in holders[term]}:
            if 5 * len(terms & sets[other]) >= 4 * len(terms | sets[other]):
                yield other, row
        for term in rarest:
            holders[term].append(row)


def _root(leader: list[int], row: int) -> int:
    while leader[row] != row:
        leader[row] = leader[leader[row]]
        row = leader[row]
    return row


def stable_hash(text: str) -> bytes:
    """What a group of queries draws: a seed and a query id decide, not the order of the data."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _chosen(groups: list[list[str]], *, share: float, seed: int) -> set[str]:
    """Whole groups in an order that the seed gives, up to the share; at least one group."""
    order = sorted(groups, key=lambda group: stable_hash(f"{seed} {group[0]}"))
    limit = max(1, round(share))
    chosen: set[str] = set()
    for group in order:
        if len(chosen) + len(group) <= limit and len(chosen) + len(group) < sum(map(len, groups)):
            chosen |= set(group)
    smallest = min(order, key=len)
    return chosen or set(smallest)


def with_queries(dataset: Dataset, query_ids: Collection[str], *, side: str) -> Dataset:
    """The dataset with these judged queries only, and with all of its documents."""
    kept = [id_ for id_ in dataset.queries if id_ in query_ids and id_ in dataset.qrels]
    queries = {query_id: dataset.queries[query_id] for query_id in kept}
    qrels = {query_id: dataset.qrels[query_id] for query_id in kept}
    return replace(
        dataset,
        queries=queries,
        qrels=qrels,
        split=f"{dataset.split} {side}" if dataset.split else side,
    )
