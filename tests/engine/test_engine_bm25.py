"""BM25 over HTTP, against sums by hand: exact lengths, stems, repeated words, several fields."""

import math

import httpx
import pytest
from engine_support import put_fields

from ranker.records import Document

PATH = "/document/v1/ranker/doc/docid/"
TYPED = "select * from doc where userQuery()"
DOCUMENTS = [
    Document("a", "Red foxes", "Foxes eat foxes"),  # red fox fox eat fox
    Document("b", "", f"fox {'stone ' * 999}"),
    Document("c", "Covid-19", "studies, study and STUDYING"),  # covid 19 study study and study
    Document("d", "fox fox", ""),
    Document("e", "19", "covid river"),
    Document("f", "", "stone"),
]
CONTENTS = (5 + 1000 + 6 + 2 + 3 + 1) / 6
TITLE = (2 + 2 + 2 + 1) / 4
"""Average lengths; documents without a title do not count for that of titles."""


@pytest.fixture(scope="module")
def client(url, encoder):
    with httpx.Client(base_url=url, timeout=30) as client:
        for document in DOCUMENTS:
            body = {"fields": put_fields(document, encoder)}
            client.post(PATH + document.doc_id, json=body).raise_for_status()
        yield client


def scores(client, yql=TYPED, **parameters):
    """Return document to bm25(contents) and bm25(title)."""
    body = {"yql": yql, "ranking": "bm25", **parameters}
    root = client.post("/search/", json=body).raise_for_status().json()["root"]
    found = {}
    for hit in root.get("children", ()):
        features = hit["fields"]["matchfeatures"]
        assert hit["relevance"] == features["bm25(contents)"]
        found[hit["fields"]["doc_id"]] = (features["bm25(contents)"], features["bm25(title)"])
    return found


def idf(frequency):
    """Return the weight of a word in `frequency` of the six documents."""
    return math.log(1 + (6 - frequency + 0.5) / (frequency + 0.5))


def weight(occurrences, length, average):
    """Return the weight of occurrences with k1 = 1.2 and b = 0.75."""
    return occurrences * 2.2 / (occurrences + 1.2 * (0.25 + 0.75 * length / average))


def check(found, expected):
    assert set(found) == set(expected)
    for name, pair in expected.items():
        assert found[name] == pytest.approx(pair, abs=1e-6), name


def test_lengths_are_exact_and_words_are_stemmed(client):
    fox = idf(3)
    expected = {
        "a": (fox * weight(3, 5, CONTENTS), 0),
        "b": (fox * weight(1, 1000, CONTENTS), 0),
        "d": (fox * weight(2, 2, CONTENTS), 0),
    }
    # Worked out on paper: ln 2 · 6.6 / 3.3265487 and ln 2 · 2.2 / 6.6097345.
    assert expected["a"][0] == pytest.approx(1.375231, abs=1e-6)
    assert expected["b"][0] == pytest.approx(0.230709, abs=1e-6)
    for query in ("fox", "Foxes", "FOX"):
        check(scores(client, query=query), expected)
    study = idf(1) * weight(3, 6, CONTENTS)
    for query in ("study", "studying", "Studies"):
        check(scores(client, query=query), {"c": (study, 0)})


def test_repeated_words_count_repeatedly(client):
    fox, stone = idf(3), idf(2)
    expected = {
        "a": (2 * fox * weight(3, 5, CONTENTS), 0),
        "b": (2 * fox * weight(1, 1000, CONTENTS) + stone * weight(999, 1000, CONTENTS), 0),
        "d": (2 * fox * weight(2, 2, CONTENTS), 0),
        "f": (stone * weight(1, 1, CONTENTS), 0),
    }
    check(scores(client, query="fox foxes stone"), expected)


def test_each_field_has_its_own_statistics(client):
    """`covid-19` needs both words; the title has its own lengths and frequencies."""
    covid, number, fox = idf(2), idf(2), idf(2)
    check(
        scores(client, query="title:fox covid-19"),
        {
            "a": (0, fox * weight(1, 2, TITLE)),
            "c": ((covid + number) * weight(1, 6, CONTENTS), 0),
            "d": (0, fox * weight(2, 2, TITLE)),
            "e": ((covid + number) * weight(1, 3, CONTENTS), 0),
        },
    )
    check(
        scores(client, query="title:19 title:covid"),
        {
            "c": (0, (idf(2) + idf(1)) * weight(1, 2, TITLE)),
            "e": (0, idf(2) * weight(1, 1, TITLE)),
        },
    )


def test_the_grammar_of_our_client(client):
    """Every character is text, and the words are found one by one."""
    yql = (
        'select * from doc where ({targetHits: 100, grammar: "tokenize", '
        'defaultIndex: "contents"}userInput(@text))'
    )
    covid, number, red = idf(2), idf(2), idf(1)
    check(
        scores(client, yql, text='-red "covid-19" (covid'),
        {
            "a": (red * weight(1, 5, CONTENTS), 0),
            "c": ((2 * covid + number) * weight(1, 6, CONTENTS), 0),
            "e": ((2 * covid + number) * weight(1, 3, CONTENTS), 0),
        },
    )
