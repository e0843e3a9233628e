"""Texts that are almost the same."""

import random

from ranker.lexical.near_duplicates import alike, document_copies, document_features


def test_two_documents_are_alike_where_all_of_them_are_compared() -> None:
    """As `document_copies` decides, which numbers the words of the collection."""
    draw = random.Random(0)
    words = [f"w{n}" for n in range(50)]
    decided = set()
    for changes in [*range(8)] * 20:
        text = draw.choices(words, k=60)
        start = draw.randrange(60 - changes)
        places = draw.choice([range(start, start + changes), draw.sample(range(60), changes)])
        other = ["other" if place in places else word for place, word in enumerate(text)]
        texts = " ".join(text), ", ".join(other).upper()
        same = alike(*map(document_features, texts))
        assert same == bool(document_copies(zip("ab", texts, strict=True)).families)
        decided.add((changes, same))
    assert {
        (0, True),
        (3, True),
        (3, False),
        (7, False),
    } <= decided  # some by where the changes are


def test_short_documents_are_alike_if_they_have_the_same_words() -> None:
    features = document_features
    assert alike(features("red fox"), features("Red, fox!"))
    assert not alike(features("red fox"), features("fox red"))
    assert not alike(features("red"), features("red red"))
    assert not alike(features(""), features("red"))
    assert not alike(features("red fox"), features("red fox runs"))
