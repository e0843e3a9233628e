"""Terms and BM25, against Vespa's own linguistics and against sums by hand."""

import json
import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_support import free_port, make_app

from ranker.client.search import App, query_body
from ranker.contract.encode import sanitize_text
from ranker.errors import DataError, MissingTool, UsageError
from ranker.lexical.bm25 import BM25Index, FirstPhase, bm25_weight, idf
from ranker.lexical.terms import terms
from ranker.records import Document
from ranker.verify import VespaProcess, working_copy

GOLDEN = Path(__file__).parents[1] / "golden"
WORDS = dict(
    line.split("\t") for line in (GOLDEN / "words.tsv").read_text(encoding="utf-8").splitlines()
)
TEXTS = [
    json.loads(line) for line in (GOLDEN / "texts.jsonl").read_text(encoding="utf-8").splitlines()
]

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
        ("Café NAÏVE", ["cafe", "naive"]),
        ("a_b", ["a", "b"]),
        ("running runs foxes studies", ["running", "runs", "fox", "study"]),
        ("x\x07y", ["x", "y"]),
        ("\u0301 ﷺ", ["صلى_الله_عليه_وسلم"]),  # nothing is left of a lone accent
        ("①②", ["12"]),
        ("I ♥ ☃", ["i", "♥", "☃"]),
        ("", []),
        ("...!?", []),
        ("東京 tower", ["東京", "tower"]),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def as_ours(vespas: list[str]) -> list[str]:
    """Vespa's terms as we write them; see `ranker.lexical.terms`."""
    return [term.replace(" ", "_") for term in vespas]


def test_terms_are_those_that_vespa_gave() -> None:
    """See `tests/golden/make.py`."""
    assert len(WORDS) >= 2000 and len(TEXTS) >= 300
    assert {word: " ".join(terms(word)) for word in WORDS} == WORDS
    for row in TEXTS:
        assert terms(row["text"]) == as_ours(row["terms"]), row["text"]


def test_terms_do_not_depend_on_what_came_before() -> None:
    """Known words are cached; upper case and accents reach them in other ways."""
    for text in ("studies STUDIES", "Studies é STUDIES", "studies"):
        assert {term for term in terms(text) if term != "e"} == {"study"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app(tmp_path_factory.mktemp("lexical") / "app")


@pytest.fixture(scope="module")
def opened(app: Path) -> Iterator[tuple[VespaProcess, Path]]:
    """Vespa's own code, and a working copy of a package of ours whose container runs."""
    with working_copy(app, port=free_port()) as copy:
        try:
            vespa_process = VespaProcess(folder=copy, options=["-XX:TieredStopAtLevel=1"])
        except MissingTool as error:
            pytest.skip(str(error))
        with vespa_process:
            yield vespa_process, copy


@pytest.mark.java
def test_live_vespa_gives_the_golden_terms(opened: tuple[VespaProcess, Path]) -> None:
    vespa_process, _ = opened
    assert vespa_process.ask("terms", texts=list(WORDS)) == [[stem] for stem in WORDS.values()]
    terms = vespa_process.ask("terms", texts=[row["text"] for row in TEXTS])
    assert terms == [row["terms"] for row in TEXTS]


@pytest.mark.java
def test_our_package_indexes_english_regardless_of_the_text(
    opened: tuple[VespaProcess, Path],
) -> None:
    """Without `set_language` Vespa guesses, and stems this one as German."""
    vespa_process, copy = opened
    german = "Der schnelle braune Fuchs springt über die faulen Hunde und die Katzen"
    texts = [*(row["text"] for row in TEXTS), german]
    documents = [{"title": text, "text": f"{text} too"} for text in texts if text]
    indexed = vespa_process.ask("index", app=str(copy), documents=documents)
    for document, made in zip(documents, indexed, strict=True):
        title, text = terms(document["title"]), terms(document["text"])
        assert as_ours(made["title"]) == title
        assert as_ours(made["contents"]) == title + text
        assert made["text"] == []  # not indexed for itself


@pytest.mark.java
def test_vespa_makes_the_same_terms_of_questions(
    opened: tuple[VespaProcess, Path], app: Path
) -> None:
    vespa_process, copy = opened
    known = App.open(app)
    bodies = []
    for row in (*TEXTS[:100], *TEXTS[-100:]):
        try:
            bodies.append(query_body(row["text"], known, profile="bm25"))
        except UsageError as error:
            assert "no word" in str(error) and not terms(row["text"])
    vespa_process.serve(copy)
    requests = [{name: str(value) for name, value in body.items()} for body in bodies]
    trees = vespa_process.ask("trees", requests=requests)
    for body, answer in zip(bodies, trees, strict=True):
        assert answer["tree"]["item"] == "WEAKAND"
        found = [item["term"] for item in answer["tree"]["children"]]
        assert found == terms(body["query_text"]), body["query_text"]
    # A query that names no language is English by the query profile.
    typed = {"yql": "select * from doc where userQuery()", "query": "Der Fuchs und die Katzen"}
    (answer,) = vespa_process.ask("trees", requests=[typed])
    assert [item["term"] for item in answer["tree"]["children"]] == terms(typed["query"])


@pytest.mark.java
def test_every_character_is_folded_as_in_vespa(opened: tuple[VespaProcess, Path]) -> None:
    vespa_process, _ = opened
    signs = [sign for sign in map(chr, range(0x3000)) if is_legal(sign)]
    signs += [sign for sign in map(chr, range(0xA000, 0x20000)) if is_legal(sign)]
    texts = [f"X{sign}Z" for sign in signs]
    other = {
        text: made
        for text, made in zip(texts, vespa_process.ask("terms", texts=texts), strict=True)
        if terms(text) != as_ours(made)
    }
    # Characters that Java 17 does not know yet separate words there.
    assert all(made == ["x", "z"] for made in other.values())
    assert len(other) < 0.07 * len(texts) and min(other) > "X\u0500Z"


def is_legal(sign: str) -> bool:
    return unicodedata.category(sign) not in ("Cn", "Co", "Cs") and sanitize_text(sign) == sign


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


def test_the_index_knows_which_documents_hold_a_term() -> None:
    index = BM25Index(DOCUMENTS)
    assert [index.frequency(term) for term in ("red", "fox", "unicorn")] == [2, 1, 0]
    assert index.holding(["red"]) == {"a", "c"} and index.holding(["red", "fox"]) == {"a"}
    assert index.holding(["red", "dog"]) == index.holding(["unicorn"]) == set()


def test_ties_keep_corpus_order() -> None:
    index = BM25Index([Document(str(n), "", "same words") for n in range(9)])
    assert [doc_id for doc_id, _ in index.search("same", 5)] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("documents", [[], [Document("x", "", "...")]])
def test_a_corpus_without_words_is_rejected(documents: list[Document]) -> None:
    with pytest.raises(DataError, match="without a single word"):
        BM25Index(documents)


def test_the_first_phase_gives_what_the_index_gives_at_any_depth() -> None:
    documents = [Document(str(n), "", f"red {'fox ' * (n % 5)} dog") for n in range(40)]
    index = BM25Index(documents)
    for depth in (0, 10, 100):
        first_phase = FirstPhase(index, depth=depth)
        for query in ("red fox", "dog", "nothing", "fox"):
            scores = dict(index.search(query, 40))
            for k in (3, 20, 1, 40, 7):
                assert first_phase.search(query, k) == index.search(query, k)
                for document in documents:
                    expected = scores.get(document.doc_id, 0.0)
                    assert first_phase.score(query, document.doc_id) == expected
