"""Splits by query: disjoint, repeatable, near-duplicates on one side."""

import hashlib
import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.dataset import Dataset, load, split_queries
from ranker.dataset.folds import fold_of_queries
from ranker.errors import DataError, UsageError
from ranker.lexical.near_duplicates import near_copies, query_families
from ranker.lexical.terms import terms
from ranker.records import Document, Query

WORDS = "wing lift drag plate heat flow shock layer wave body cone jet".split()
queries = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join),
    min_size=2,
    max_size=25,
)


def dataset(texts: dict[str, str]) -> Dataset:
    return Dataset(
        name="toy",
        documents={"d": Document("d", "", "x"), "e": Document("e", "", "y")},
        queries={id_: Query(id_, text) for id_, text in texts.items()},
        qrels={id_: {"d": 1} for id_ in texts},
        split=None,
    )


def brute_force_families(texts: dict[str, str]) -> set[frozenset[str]]:
    """Connected components, by joining until nothing changes."""
    sets = {id_: set(terms(text)) for id_, text in texts.items()}

    def near(one: str, other: str) -> bool:
        shared, all_ = len(sets[one] & sets[other]), len(sets[one] | sets[other])
        return sets[one] == sets[other] or shared / all_ >= 0.8

    groups = [{id_} for id_ in texts]
    for one in texts:
        for other in texts:
            if near(one, other):
                joined = [group for group in groups if {one, other} & group]
                groups = [group for group in groups if group not in joined] + [set().union(*joined)]
    return set(map(frozenset, groups))


@settings(max_examples=150, deadline=None)
@given(queries)
def test_families_are_the_connected_components_of_all_pairs(texts):
    assert set(map(frozenset, query_families(texts))) == brute_force_families(texts)


@settings(max_examples=80, deadline=None)
@given(queries, st.floats(0.05, 0.95), st.integers(0, 5))
def test_sides_are_disjoint_whole_and_keep_families_together(texts, held_out, seed):
    data = dataset(texts)
    groups = query_families(texts)
    if len(groups) < 2:
        with pytest.raises(DataError):
            split_queries(data, held_out=held_out, seed=seed)
        return
    train, test = split_queries(data, held_out=held_out, seed=seed)
    assert train.queries and test.queries
    assert not set(train.queries) & set(test.queries)
    assert {**train.queries, **test.queries} == data.queries
    assert {**train.qrels, **test.qrels} == data.qrels
    assert set(train.qrels) == set(train.queries)
    assert train.documents is test.documents is data.documents
    assert all(set(group) <= set(train.queries) or set(group) <= set(test.queries)
               for group in groups)  # fmt: skip
    smallest = min(map(len, groups))
    assert len(test.queries) <= max(round(held_out * len(texts)), smallest)


@settings(max_examples=40, deadline=None)
@given(queries, st.randoms(use_true_random=False))
def test_the_order_of_the_queries_does_not_matter(texts, order):
    if len(query_families(texts)) < 2:
        return
    shuffled = order.sample(sorted(texts.items()), len(texts))
    one, other = split_queries(dataset(texts)), split_queries(dataset(dict(shuffled)))
    for side, again in zip(one, other, strict=True):
        assert side.queries == again.queries
        assert side.sha256 == again.sha256


def test_near_duplicates_by_hand():
    texts = {
        "a": "What is the lift of a wing?",
        "b": "a wing, the lift: WHAT IS OF",  # the same terms
        "c": "lift of a wing in a shock wave",
        "d": "what is the lift of wings at all",  # 6 of 8 terms
        "e": "wing lift heat drag flow",
        "f": "wing lift heat drag",  # 4 of 5
        "g": "wing lift heat",  # 3 of 4, and 3 of 5
        "h": "?!",
        "i": "...",  # neither has a term
    }
    assert query_families(texts) == [["a", "b"], ["c"], ["d"], ["e", "f"], ["g"], ["h", "i"]]


def test_the_share_is_met_and_seeds_differ():
    numbers = random.Random(0)
    data = dataset({f"q{n}": " ".join(numbers.choices(WORDS, k=5)) + f" {n}" for n in range(200)})
    sides = [split_queries(data, held_out=0.2, seed=seed)[1] for seed in range(3)]
    assert all(len(side.queries) == 40 for side in sides)
    assert len({frozenset(side.queries) for side in sides}) == 3
    assert sides[0] == split_queries(data)[1]


def test_a_side_is_named_hashed_and_ignores_unjudged_queries():
    data = dataset({"a": "lift", "b": "heat", "c": "drag"})
    data = replace(data, split="train", qrels={"a": {"d": 1}, "b": {"e": 1}})
    train, test = split_queries(data, held_out=0.5)
    assert (train.split, test.split) == ("train train", "train held-out")
    assert len(train.queries) == len(test.queries) == 1
    assert not any("sha256" in vars(side) for side in (train, test)), "the corpus was hashed"
    assert len({train.sha256, test.sha256, data.sha256}) == 3


def test_a_hash_of_a_side_is_that_of_the_same_data_loaded(tmp_path):
    (tmp_path / "a.csv").write_text("query,title,label\nlift,Wings,1\nheat,Wings,1\n")
    train, _ = split_queries(load(tmp_path / "a.csv"), held_out=0.5)
    (query,) = train.queries.values()
    (tmp_path / "b.csv").write_text(f"query,title,label\n{query.text},Wings,1\n")
    assert load(tmp_path / "b.csv").sha256 == train.sha256


def test_data_that_cannot_be_split():
    with pytest.raises(DataError, match="toy: cannot hold queries out: its 2 judged queries are"):
        split_queries(dataset({"a": "the lift", "b": "The lift!"}))
    with pytest.raises(DataError, match="it has only one judged query"):
        split_queries(dataset({"a": "lift"}))
    for share in (0, 1, -0.1, float("nan")):
        with pytest.raises(UsageError, match="expected a share above 0 and below 1"):
            split_queries(dataset({"a": "lift", "b": "heat"}), held_out=share)


def test_the_sides_and_folds_of_a_seed_are_the_same_in_every_release():
    """Published figures rest on them; the digest was made with an earlier finder."""
    numbers = random.Random(7)
    texts = {f"q{n}": " ".join(numbers.choices(WORDS, k=numbers.randint(3, 9))) for n in range(400)}
    data = dataset(texts)
    sides = [sorted(split_queries(data, held_out=0.3, seed=seed)[1].queries) for seed in range(3)]
    folds = [fold_of_queries(data, folds=5, seed=seed) for seed in range(3)]
    copies = sorted(near_copies(list(texts.values())[::2], list(texts.values())[1::2]))
    assert max(map(len, query_families(texts))) > 2 and copies
    content = json.dumps([sides, folds, copies]).encode()
    assert hashlib.sha256(content).hexdigest().startswith("8814a56e8aca1e4484ccdc9f")
