"""Groups that are made from a corpus alone."""

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping

import pytest

from ranker.dataset.groups import Negatives, TrainingGroup, count_negatives
from ranker.dataset.pretraining import held_out_groups, passage_stems, pretraining_groups
from ranker.errors import DataError
from ranker.lexical.bm25 import BM25Index, contents
from ranker.lexical.terms import terms
from ranker.records import Document

WORDS = [a + b + c for a in "bdfgklmnprtv" for b in "aeiou" for c in ("mo", "lu", "pa", "ke")]


def corpus(size: int, *, seed: int = 0) -> dict[str, Document]:
    """Documents of a title, three sentences and a number of their own."""
    draw = random.Random(seed)
    documents = {}
    for n in range(size):
        title, *sentences = [" ".join(draw.sample(WORDS, 5)) for _ in range(4)]
        text = f"{sentences[0]}. {sentences[1]} x{n}y. {sentences[2]}."
        documents[f"d{n}"] = Document(f"d{n}", title, text)
    return documents


def groups_of(
    documents: Mapping[str, Document], count: int = 300, **others: object
) -> list[TrainingGroup]:
    settings = {"words": 40, "negatives": Negatives(count=4, random=1, depth=30), "seed": 0}
    index = BM25Index(documents.values())
    return list(pretraining_groups(documents, index, count=count, **settings | others))


def way(group: TrainingGroup, documents: Mapping[str, Document]) -> str:
    document, positive = documents[group.documents[0].doc_id], group.documents[0]
    if positive == document:
        return "keywords"
    return "title" if group.query == document.title and not positive.title else "sentence"


def ids(documents: Iterable[Document]) -> set[str]:
    return {document.doc_id for document in documents}


def test_a_document_asks_in_three_ways_and_shows_what_is_left_of_it() -> None:
    documents = corpus(60)
    groups = groups_of(documents)
    ways = Counter(way(group, documents) for group in groups)
    assert set(ways) == {"title", "sentence", "keywords"} and min(ways.values()) > 50
    for group in groups:
        positive, *others = group.documents
        document = documents[positive.doc_id]
        assert group.grades == (1, 0, 0, 0, 0) and len(ids(group.documents)) == 5
        match way(group, documents):
            case "title":
                assert positive.text == document.text
                assert not any(other.title for other in others)
            case "sentence":
                assert group.query in document.text and group.query not in positive.text
                assert positive.title == document.title
                assert others == [documents[other.doc_id] for other in others]
    assert count_negatives(groups)["positive"] == 300


def test_every_document_asks_before_one_asks_again() -> None:
    documents = corpus(60)
    turns = [group.documents[0].doc_id for group in groups_of(documents, 120)]
    assert set(turns[:60]) == set(turns[60:]) == set(documents) and turns[:60] != turns[60:]


def test_keywords_are_rare_shared_and_in_the_order_of_the_text() -> None:
    documents = {id_: Document(id_, d.title, f"the {d.text}") for id_, d in corpus(60).items()}
    index = BM25Index(documents.values())
    frequency = index.frequency
    asked = 0
    for group in groups_of(documents, 600):
        if way(group, documents) != "keywords":
            continue
        asked += 1
        positive, *others = group.documents
        words, text = group.query.split(), contents(positive).replace(".", "").split()
        assert 2 <= len(words) <= 5
        places = [text.index(word) for word in words]
        assert places == sorted(places)
        assert not {"the", f"x{positive.doc_id[1:]}y"} & set(words)
        shared = sorted(n for term in set(terms(contents(positive))) if (n := frequency(term)) > 1)
        assert all(1 < frequency(term) <= shared[7] for term in terms(group.query))
        # A document that holds all of them answers as well.
        assert not any(set(words) <= set(contents(o).replace(".", "").split()) for o in others)
        scores = dict(index.search(group.query, 60))
        rivals = [score for id_, score in scores.items() if id_ != positive.doc_id]
        assert max(rivals) >= 0.5 * scores[positive.doc_id]
    assert asked > 20


def test_no_keywords_where_bm25_finds_the_document_alone() -> None:
    """Two documents share two words; no other document holds either of them."""
    pair = {id_: Document(id_, "", f"zebra quagga {id_}") for id_ in ("a", "b")}
    others = {f"c{n}": Document(f"c{n}", "", f"lone{n}") for n in range(60)}
    with pytest.raises(DataError, match="train without --pretrain"):
        groups_of({**pair, **others}, 1)
    # A third one that lacks a word is what can be told apart from them.
    third = {"e": Document("e", "", "zebra")}
    found = groups_of({**pair, **others, **third}, 4)
    assert {group.query for group in found} == {"zebra quagga"}
    for group in found:
        assert not {"a", "b"} & ids(group.documents[1:]) and "e" in ids(group.documents[1:])


def test_keywords_are_among_the_words_that_the_model_sees() -> None:
    documents = corpus(80)
    for group in groups_of(documents, words=8):
        if way(group, documents) == "keywords":
            seen = contents(group.documents[0]).replace(".", "").split()[:8]
            assert set(group.query.split()) <= set(seen)


def test_near_duplicates_are_never_negatives() -> None:
    documents = corpus(40)
    copies = {
        f"copy-of-{id_}": Document(f"copy-of-{id_}", "", d.text.replace(".", "!") + " more")
        for id_, d in documents.items()
    }
    groups = groups_of({**documents, **copies}, 400)
    for group in groups:
        positive, *others = [document.doc_id.split("-")[-1] for document in group.documents]
        assert positive not in others
    assert count_negatives(groups)["left out by near-duplicate"] > 20


@pytest.mark.parametrize("sign", ["#", "_", "-"])
@pytest.mark.parametrize("first", [0, 1])
def test_passages_of_the_same_document_are_never_negatives(sign: str, first: int) -> None:
    passages = {
        f"{n % 15}{sign}{first + n // 15}": document
        for n, document in enumerate(corpus(45).values())
    }
    documents = {id_: Document(id_, d.title, d.text) for id_, d in passages.items()}
    groups = groups_of(documents, 300)
    for group in groups:
        stem, *others = [document.doc_id.split(sign)[0] for document in group.documents]
        assert stem not in others
    assert count_negatives(groups)["left out by same document"] > 20


@pytest.mark.parametrize(
    "doc_ids",
    [
        [f"doc-{n}" for n in range(50)],  # one count for all documents
        [f"{language}-{n}" for language in ("de", "en", "fr") for n in range(20)],
        [f"{year}-{n}" for year in range(20) for n in (3, 17, 40)],  # with gaps
        [f"{n}_2" for n in range(50)],
        [*(f"{n}#{part}" for n in range(10) for part in (0, 1)), *map(str, range(50))],
    ],
)
def test_a_number_in_an_id_alone_says_nothing(doc_ids: list[str]) -> None:
    assert not passage_stems(doc_ids)


def test_numbers_without_a_gap_in_most_ids_are_passages() -> None:
    doc_ids = [f"a-{n}#{part}" for n in range(10) for part in range(1 + n % 3)]
    several = {f"a-{n}" for n in range(10) if n % 3}
    assert not passage_stems(doc_ids)  # of ten documents only six have several passages
    more = [f"b{n}_{part}" for n in range(4) for part in (2, 1)]
    assert passage_stems([*doc_ids, *more]) == several | {f"b{n}" for n in range(4)}


def test_documents_of_the_same_title_are_never_negatives_of_each_other() -> None:
    """Where a title asks, of any title; otherwise of one that is long enough to be certain."""
    titles = ("Notes", "The Life of the Fox")
    documents = {
        id_: Document(id_, titles[n % 2].upper() if n % 3 else titles[n % 2], document.text)
        for n, (id_, document) in enumerate(corpus(40).items())
    }
    same = Counter()
    for group in groups_of(documents, 400):
        titled = [documents[document.doc_id].title.lower() for document in group.documents]
        long, by_title = len(titled[0].split()) > 2, way(group, documents) == "title"
        assert not (long or by_title) or titled[0] not in titled[1:]
        same[titled[0] in titled[1:]] += 1
    assert same[True] > 20 and same[False] > 200


def test_documents_with_the_sentence_that_asks_are_not_negatives() -> None:
    shared = "All rights are reserved by no document."
    documents = {
        id_: Document(id_, "", f"{document.text} {shared}" if n % 2 else document.text)
        for n, (id_, document) in enumerate(corpus(40).items())
    }
    groups = [group for group in groups_of(documents, 400) if group.query == shared]
    assert len(groups) > 20
    assert all(shared not in d.text for group in groups for d in group.documents[1:])


def test_held_out_groups_are_of_documents_that_no_other_group_holds() -> None:
    documents = corpus(300)
    index = BM25Index(documents.values())
    fifteen = Negatives(count=15, random=2, depth=30)

    def held_out(seed: int, most: int = 40) -> list[TrainingGroup]:
        return held_out_groups(documents, index, most=most, words=40, negatives=fifteen, seed=seed)

    groups = held_out(1)
    without = {group.documents[0].doc_id for group in groups}
    assert len(without) == len(groups) == 40
    assert all(len(group.documents) == 16 for group in groups)
    learned = groups_of(documents, 520, without=without)
    assert not any(without & ids(group.documents) for group in learned)
    assert {group.documents[0].doc_id for group in learned} == documents.keys() - without
    assert held_out(1) == groups != held_out(2)
    assert len(held_out(1, most=1000)) == 60  # a fifth
    assert not any(without & ids(group.documents) for group in learned)


@pytest.mark.parametrize(("size", "held_out"), [(10, 0), (99, 0), (100, 20)])
def test_of_a_small_corpus_nothing_is_held_out(size: int, held_out: int) -> None:
    documents = corpus(size)
    index = BM25Index(documents.values())
    groups = held_out_groups(
        documents, index, most=100, words=40, negatives=Negatives(count=15), seed=0
    )
    assert len(groups) == held_out
    assert len(groups_of(documents, 30)) == 30


def test_groups_are_made_as_they_are_taken() -> None:
    documents = corpus(30)
    index = BM25Index(documents.values())

    def first(count: int) -> list[TrainingGroup]:
        groups = pretraining_groups(
            documents, index, count=count, words=40, negatives=Negatives(), seed=1
        )
        return list(itertools.islice(groups, 3))

    assert first(10**12) == first(3)


def test_the_seed_decides() -> None:
    documents = corpus(60)
    assert groups_of(documents, seed=5) == groups_of(documents, seed=5)
    assert groups_of(documents, seed=5) != groups_of(documents, seed=6)


def test_a_corpus_in_which_nothing_can_ask_is_rejected() -> None:
    with pytest.raises(DataError, match="none of the 1 documents has a title and a text"):
        groups_of({"a": Document("a", "", "one two")}, 1)
