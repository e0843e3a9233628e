import math

import pytest

from ranker.errors import DataError
from ranker.lexical import BM25Index, bm25_weight, idf, terms
from ranker.records import Document

DOCUMENTS = [
    Document("a", "red fox", "the quick red fox jumps"),
    Document("b", "blue dog", "a lazy dog"),
    Document("c", "", "red red red"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("U.S.A", ["u", "s", "a"]),
        ("covid-19", ["covid", "19"]),
        ("don't", ["don", "t"]),
        ("Café NAÏVE", ["cafe", "naiv"]),
        ("a_b", ["a", "b"]),
        ("running runs", ["run", "run"]),
        ("①②", ["12"]),
        ("I ♥ ☃", ["i", "♥", "☃"]),
        ("", []),
        ("...!?", []),
        ("東京 tower", ["東京", "tower"]),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_bm25_by_hand() -> None:
    """'red fox': lengths 7, 5, 3 with the title; red in a (2) and c (3), fox in a (2)."""
    average = (7 + 5 + 3) / 3
    red, fox = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)

    def weight(occurrences: int, length: int) -> float:
        return occurrences * 2.2 / (occurrences + 1.2 * (0.25 + 0.75 * length / average))

    expected = {"a": (red + fox) * weight(2, 7), "c": red * weight(3, 3)}
    got = dict(BM25Index(DOCUMENTS).search("Red fox", 10))
    assert got == pytest.approx(expected, abs=1e-6)
    assert idf(3, 2) == pytest.approx(red) and bm25_weight(2, 7, average) == weight(2, 7)


def test_a_repeated_query_term_counts_again() -> None:
    index = BM25Index(DOCUMENTS)
    once, twice = dict(index.search("lazy", 9)), dict(index.search("lazy lazy", 9))
    assert twice["b"] == pytest.approx(2 * once["b"], rel=1e-6)


def test_search_is_best_first_and_without_zeros() -> None:
    index = BM25Index(DOCUMENTS)
    hits = index.search("red quick", 10)
    assert [doc_id for doc_id, _ in hits] == ["a", "c"]
    assert index.search("red quick", 1) == hits[:1]
    assert index.search("unicorn", 10) == [] and index.search("", 10) == []


def test_ties_keep_corpus_order() -> None:
    index = BM25Index([Document(str(n), "", "same words") for n in range(9)])
    assert [doc_id for doc_id, _ in index.search("same", 5)] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("documents", [[], [Document("x", "", "...")]])
def test_a_corpus_without_words_is_refused(documents: list[Document]) -> None:
    with pytest.raises(DataError, match="without a single word"):
        BM25Index(documents)
