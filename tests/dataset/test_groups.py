import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pytest

from ranker.dataset import Dataset
from ranker.dataset.groups import Negatives, TrainingGroup, count_negatives, judged_groups
from ranker.errors import DataError
from ranker.lexical.bm25 import BM25Index, FirstPhase
from ranker.records import Document, Query

WORDS = "red green blue fox dog cat house tree river stone quick slow lazy".split()


def collection(qrels: Mapping[str, Mapping[str, int]]) -> Dataset:
    documents = {
        f"d{n}": Document(f"d{n}", f"{word} thing", f"A {word} thing is here. It {word} runs on.")
        for n, word in enumerate(WORDS * 3)
    }
    queries = {query_id: Query(query_id, f"red thing {query_id}") for query_id in qrels}
    return Dataset(
        name="synthetic",
        documents=documents,
        queries=queries,
        qrels={query_id: dict(row) for query_id, row in qrels.items()},
        split=None,
    )


DATA = collection({"q1": {"d0": 3, "d1": 1, "d2": 0}, "q2": {"d3": 1, "d13": 1}})
INDEX = FirstPhase(BM25Index(DATA.documents.values()))
# The same without copies.
APART = replace(
    DATA,
    documents={
        id_: replace(document, text=f"{document.text} {id_}")
        for id_, document in DATA.documents.items()
    },
)
APART_INDEX = FirstPhase(BM25Index(APART.documents.values()))


def test_one_group_for_every_positive() -> None:
    groups = list(judged_groups(DATA, INDEX, negatives=Negatives(count=4), seed=1))
    positives = sorted((group.query, group.documents[0].doc_id) for group in groups)
    assert positives == [
        ("red thing q1", "d0"),
        ("red thing q1", "d1"),
        ("red thing q2", "d13"),
        ("red thing q2", "d3"),
    ]
    assert all(len(group.documents) == 5 == len(group.grades) for group in groups)


@pytest.mark.parametrize("seed", range(20))
def test_no_judged_document_is_a_negative_above_its_grade(seed: int) -> None:
    for group in judged_groups(DATA, INDEX, negatives=Negatives(count=6, random=2), seed=seed):
        judged = DATA.qrels[group.query.split()[-1]]
        for document, grade in zip(group.documents, group.grades, strict=True):
            assert grade == judged.get(document.doc_id, 0)
        assert max(group.grades[1:]) < group.grades[0]
        ids = [document.doc_id for document in group.documents]
        assert len(set(ids)) == len(ids)


def test_a_copy_of_the_answer_is_not_a_negative() -> None:
    """d0, d13 and d26 have the same text."""
    for seed in range(20):
        for group in judged_groups(DATA, INDEX, negatives=Negatives(count=8), seed=seed):
            texts = [document.text for document in group.documents]
            assert texts.count(texts[0]) == 1


def test_without_texts_a_copy_has_the_same_title() -> None:
    titles = ["red fox runs", "red fox runs", "red fox", "red dog"]
    documents = {f"d{n}": Document(f"d{n}", title, "") for n, title in enumerate(titles)}
    data = replace(
        collection({"q": {"d0": 1}}), documents=documents, queries={"q": Query("q", "red fox")}
    )
    index = FirstPhase(BM25Index(documents.values()))
    for seed in range(5):
        [group] = judged_groups(data, index, negatives=Negatives(count=3), seed=seed)
        assert [document.doc_id for document in group.documents[1:]] in (["d2", "d3"], ["d3", "d2"])


def test_min_grade_sets_the_minimum_grade_of_a_positive() -> None:
    groups = list(judged_groups(DATA, INDEX, negatives=Negatives(count=3), seed=0, min_grade=2))
    assert [group.documents[0].doc_id for group in groups] == ["d0"]
    with pytest.raises(DataError, match="no query has a document of grade 4"):
        list(judged_groups(DATA, INDEX, negatives=Negatives(), seed=0, min_grade=4))


def test_hard_negatives_come_from_the_top_of_bm25() -> None:
    top = {doc_id for doc_id, _ in INDEX.search("red thing q2", 12)}
    for group in judged_groups(DATA, INDEX, negatives=Negatives(count=4, depth=10), seed=3):
        if group.query.endswith("q2"):
            hard = [
                d.doc_id for d, s in zip(group.documents, group.sources, strict=True) if s == "hard"
            ]
            assert hard and set(hard) <= top


def unjudged(groups: list[TrainingGroup], query_id: str) -> set[str]:
    """Return the unjudged documents of a query's groups."""
    return {
        document.doc_id
        for group in groups
        if group.query.endswith(query_id)
        for document in group.documents
    } - set(DATA.qrels[query_id])


@pytest.mark.parametrize("seed", range(10))
def test_skip_top_keeps_the_best_of_bm25_away(seed: int) -> None:
    """Also from the negatives sampled from the whole corpus; judged ones are not affected."""
    best = {doc_id for doc_id, _ in APART_INDEX.search("red thing q1", 3)}
    without = list(
        judged_groups(APART, APART_INDEX, negatives=Negatives(count=30, random=20), seed=seed)
    )
    assert best & unjudged(without, "q1")
    guarded = Negatives(count=30, random=20, skip_top=3)
    groups = list(judged_groups(APART, APART_INDEX, negatives=guarded, seed=seed))
    assert not best & unjudged(groups, "q1") and "d0" in best
    assert {group.documents[0].doc_id for group in groups} == {"d0", "d1", "d3", "d13"}
    left_out = {group.left_out["skip_top"] for group in groups if group.query.endswith("q1")}
    assert left_out == {len(best - set(APART.qrels["q1"]))} == {2}


@pytest.mark.parametrize("seed", range(10))
def test_skip_top_is_of_bm25_regardless_of_the_model(seed: int) -> None:
    best = [doc_id for doc_id, _ in APART_INDEX.search("red thing q1", 39)]
    liked = dict.fromkeys(reversed(best), 0.0) | dict.fromkeys(best[:3], 9.0)
    logits = dict.fromkeys(APART.qrels, liked)
    guarded = Negatives(count=30, skip_top=3)
    groups = list(judged_groups(APART, APART_INDEX, negatives=guarded, seed=seed, logits=logits))
    assert unjudged(groups, "q1") and not set(best[:3]) & unjudged(groups, "q1")


@pytest.mark.parametrize("seed", range(10))
def test_a_copy_of_another_answer_is_not_a_negative(seed: int) -> None:
    data = collection({"q1": {"d0": 1, "d1": 1}})  # d13 and d26 have the text of d0
    groups = list(judged_groups(data, INDEX, negatives=Negatives(count=30, random=20), seed=seed))
    assert unjudged(groups, "q1") and not {"d13", "d26", "d14", "d27"} & unjudged(groups, "q1")


@pytest.mark.parametrize("seed", range(10))
def test_max_score_ratio_keeps_away_what_bm25_likes_better_than_the_answer(seed: int) -> None:
    """q2 asks for red: its answer d3 (fox) shares `thing` only, so no red thing may be below."""
    red = {f"d{n}" for n in range(39) if n % 13 == 0} - set(APART.qrels["q2"])
    assert red == {"d0", "d26"}
    scores = dict(APART_INDEX.search("red thing q2", 39))
    free = list(
        judged_groups(APART, APART_INDEX, negatives=Negatives(count=30, random=20), seed=seed)
    )
    assert red & unjudged(free, "q2")
    guard = Negatives(count=30, random=20, max_score_ratio=1.0)
    for group in judged_groups(APART, APART_INDEX, negatives=guard, seed=seed):
        limit = scores.get(group.documents[0].doc_id, 0.0)
        for document, source in zip(group.documents, group.sources, strict=True):
            assert source in {"positive", "judged"} or scores[document.doc_id] <= limit
        if group.documents[0].doc_id == "d3":
            assert group.left_out == {"max_score_ratio": 2}


def test_what_the_guard_left_out_is_counted() -> None:
    guard = Negatives(count=4, skip_top=2, max_score_ratio=1.0)
    groups = list(judged_groups(DATA, INDEX, negatives=guard, seed=0))
    counts = count_negatives(groups)
    assert counts["left out by skip_top"] == sum(group.left_out["skip_top"] for group in groups) > 0
    by_ratio = sum(group.left_out["max_score_ratio"] for group in groups)
    assert counts["left out by max_score_ratio"] == by_ratio > 0
    assert not any(
        name.startswith("left out")
        for name in count_negatives(list(judged_groups(DATA, INDEX, negatives=Negatives(), seed=0)))
    )


def test_an_answer_without_a_word_of_the_query_leaves_random_negatives() -> None:
    data = collection({"q1": {"d1": 1}})
    data.queries["q1"] = Query("q1", "red")
    (group,) = judged_groups(data, INDEX, negatives=Negatives(count=4, max_score_ratio=2.0), seed=0)
    assert group.sources == ("positive", *["random"] * 4) and group.left_out == {
        "max_score_ratio": 3
    }
    assert not {"d0", "d13", "d26"} & {document.doc_id for document in group.documents}


def test_the_seed_decides() -> None:
    def once(seed: int) -> list[object]:
        return list(judged_groups(DATA, INDEX, negatives=Negatives(random=2), seed=seed))

    assert once(5) == once(5) and once(5) != once(6)


def test_bm25_is_searched_once_for_a_set_of_queries(monkeypatch) -> None:
    """Regardless of the number of epochs, of their depth and of their guard."""
    searched: list[str] = []
    scores = BM25Index.scores
    monkeypatch.setattr(
        BM25Index, "scores", lambda self, query: searched.append(query) or scores(self, query)
    )
    first_phase = FirstPhase(INDEX.index, depth=39)
    guard = Negatives(count=30, random=20, depth=20, max_score_ratio=1.0)
    for seed in range(3):
        assert list(judged_groups(DATA, first_phase, negatives=guard, seed=seed))
    assert sorted(searched) == ["red thing q1", "red thing q2"]


def test_the_groups_of_a_seed_are_the_same_in_every_release() -> None:
    """A training can be repeated; the digest dates from when each epoch searched BM25 again."""
    logits = {query_id: {f"d{n}": (n * 7 % 11) / 3 for n in range(30)} for query_id in DATA.qrels}
    digest = hashlib.sha256()
    for seed in range(5):
        for negatives in (
            Negatives(count=8, random=3, logit_margin=0.5),
            Negatives(count=20, random=10, max_score_ratio=1.0, skip_top=2, logit_margin=0.5),
            Negatives(count=20, random=12, depth=5, max_score_ratio=1.0, logit_margin=0.5),
        ):
            for run in (None, logits):
                for group in judged_groups(
                    APART, APART_INDEX, negatives=negatives, seed=seed, logits=run
                ):
                    ids = [document.doc_id for document in group.documents]
                    left_out = sorted(group.left_out.values())
                    row = (group.query, ids, group.grades, group.sources, left_out)
                    digest.update(repr(row).encode())
    assert digest.hexdigest().startswith("1155b235d27568877d963266")
