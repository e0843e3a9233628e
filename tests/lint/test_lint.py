import csv
import itertools
import json
import random
import re
import sys
import unicodedata

import pytest
from lint_data import QUERIES, Planted, clean, word_encoder, words
from page_reader import EVIL, read

from ranker.cli import main
from ranker.dataset import load
from ranker.errors import ArtifactError, DataError, UsageError
from ranker.lexical.near_duplicates import RUN, document_copies
from ranker.lint import collection_of, lint, read_collection
from ranker.lint.checks.encoding import _language_identifier, is_foreign, repaired
from ranker.lint.finding import clip
from ranker.lint.inspection import percent
from ranker.lint.linter import KINDS
from ranker.lint.page import page
from ranker.metrics.plots import BETTER, WORSE, histogram, share_curve

PLANTS = {}
"""By id of the finding: how to plant it, how often it is then found, how grave it is, and the
ids, words or place that an example must show."""


def plant(kind_id, count, severity, *shown):
    """Register a function that plants a fault in clean data."""

    def register(function):
        PLANTS[kind_id] = (function, count, severity, shown)
        return function

    return register


@plant("missing-documents", 2, "error", "'nowhere'", "qrels/test.tsv:302")
def _(data):
    data.judge("q1", "nowhere", 1)
    data.judge("q2", "nowhere", 1)


@plant("missing-queries", 1, "error", "'q-unknown'", "qrels/test.tsv:302")
def _(data):
    data.judge("q-unknown", "d1-0", 1)


@plant("empty-queries", 1, "error", "the query is empty", "queries.jsonl:101")
def _(data):
    data.queries["q-empty"] = " "


@plant("contradicting-grades", 1, "error", "graded 1 here and 2 before", "qrels/test.tsv:302")
def _(data):
    data.judge("q1", "d1-0", 1)


@plant("duplicate-ids", 1, "error", "document id 'd1-0' came before", "corpus.jsonl:301")
def _(data):
    data.extra_lines["corpus.jsonl"] = ['{"_id": "d1-0", "title": "other", "text": "words"}']


@plant("unreadable-rows", 2, "error", "label 'good' is not a number", "qrels/test.tsv:302")
def _(data):
    data.extra_lines["qrels/test.tsv"] = ["q1\td1-0\tgood", "q1\td1-0"]


@plant("duplicate-grades", 2, "note", "were already graded 2", "qrels/test.tsv:303")
def _(data):
    data.judge("q1", "d1-0", 2)
    data.judge("q2", "d2-0", 2)


@plant("queries-without-answer", 1, "warning", "q7", "queries.jsonl:8")
def _(data):
    data.qrels["test"] = [(q, d, "0" if q == "q7" else g) for q, d, g in data.qrels["test"]]


@plant("queries-with-only-answers", 1, "note", "q7")
def _(data):
    data.qrels["test"] = [row for row in data.qrels["test"] if row[0] != "q7" or row[2] != "0"]


@plant("queries-without-judgements", 1, "note", "q-new", "queries.jsonl:101")
def _(data):
    data.queries["q-new"] = "where is something unjudged"


@plant("label-skew", 1, "warning")
def _(data):
    data.qrels["test"] = [(q, d, "1") for q, d, _ in data.qrels["test"]]
    data.qrels["test"][1] = (*data.qrels["test"][1][:2], "0")


@plant("uneven-judgements", 280, "note", "q9", "28 answers")
def _(data):
    for query in range(10):
        for other in range(20, 29):
            for at in range(3):
                data.judge(f"q{query}", f"d{other}-{at}", 1)


@plant("odd-grades", 1, "warning", "grade 90", "q3 d3-0")
def _(data):
    rows = data.qrels["test"]
    data.qrels["test"] = [(q, d, "90" if d == "d3-0" else g) for q, d, g in rows]


@plant("queries-across-splits", 1, "warning", "(train)", "(test)")
def _(data):
    data.queries["q1"] = data.queries["q0"] + " please"
    data.split({f"q{n}" for n in range(1, 50)}, "train")


@plant("repeated-queries", 2, "note", "q5 q6")
def _(data):
    data.queries["q6"] = f"{data.queries['q5']} ?"


@plant("nested-splits", 1, "note", "strict is a part of test")
def _(data):
    data.qrels["strict"] = data.qrels["test"][:30]


@plant("contradicting-repeats", 1, "warning", "d5-0 is graded 2 for q5 and 0 for q6")
def _(data):
    data.queries["q6"] = data.queries["q5"].upper() + "?"
    data.judge("q6", "d5-0", 0)


@plant("duplicate-documents", 2, "note", "d0-0 copy", "corpus.jsonl:1")
def _(data):
    original = data.documents["d0-0"]
    data.document("copy", original["title"].upper(), original["text"].replace(" ", "  "))


@plant("near-duplicate-documents", 2, "note", "d0-0 copy")
def _(data):
    original = data.documents["d0-0"]
    data.document("copy", original["title"], original["text"].replace("now.", "again."))


@plant("copies-graded-apart", 1, "warning", "the copy copy is graded 0")
def _(data):
    original = data.documents["d0-0"]
    data.document("copy", original["title"], original["text"])
    data.judge("q0", "copy", 0)


@plant("unjudged-copies", 1, "note", "the copy copy is not judged")
def _(data):
    original = data.documents["d0-0"]
    data.document("copy", original["title"], original["text"].replace("now.", "again."))


@plant("answers-across-splits", 20, "note", "d1-0")
def _(data):
    data.split({f"q{n}" for n in range(50)}, "train")
    for number in range(20):
        data.judge(f"q{number + 50}", f"d{number}-0", 1)
    data.qrels["test"] = [row for row in data.qrels["test"] if int(row[0][1:]) < 75]


@plant("empty-documents", 2, "warning", "empty", "an answer", "corpus.jsonl:1")
def _(data):
    data.document("d0-0", "", "")
    data.document("nothing", " ", "\n")


@plant("documents-without-text", 30, "note", "d0-1")
def _(data):
    for number in range(30):
        data.documents[f"d{number}-1"]["text"] = ""


@plant("documents-without-title", 30, "note", "d0-1")
def _(data):
    for number in range(30):
        data.documents[f"d{number}-1"]["title"] = ""


@plant("short-documents", 10, "note", "short0", "corpus.jsonl:301")
def _(data):
    for number, word in zip(range(10), words(1), strict=False):
        data.document(f"short{number}", word, "word")


@plant("long-documents", 1, "note", "2,500 words")
def _(data):
    data.document("long", "The book", " ".join(f"page{n}" for n in range(2498)))


@plant("wordless-queries", 1, "warning", "q4", "?!")
def _(data):
    data.queries["q4"] = "?!"


@plant("short-queries", 1, "note", "q4", "ab")
def _(data):
    data.queries["q4"] = "ab"


@plant("long-queries", 1, "note", "q4")
def _(data):
    data.queries["q4"] = " ".join(itertools.islice(words(2), 120))


@plant("texts-cut-off", 100, "warning", "d0-0", "now...", "corpus.jsonl:1")
def _(data):
    for number in range(QUERIES):
        data.documents[f"d{number}-0"]["text"] += ".."


@plant("titles-repeated", 30, "note", "d0-1")
def _(data):
    for number in range(30):
        own = data.documents[f"d{number}-1"]
        own["text"] = f"{own['title'].lower()} . {own['text']}"


@plant("length-tells-grade", 100, "warning")
def _(data):
    for number, word in zip(range(QUERIES), words(3), strict=False):
        data.documents[f"d{number}-0"]["text"] += f" plus {word}" * 10


@plant("mojibake", 3, "warning", "d0-0", "[Ã©]", "(was it 'é'?)", "corpus.jsonl:1")
def _(data):
    data.documents["d0-0"]["text"] += " café ".encode().decode("latin-1")
    data.documents["d1-0"]["text"] += " the world’s ".encode().decode("cp1252")
    data.queries["q2"] += " Þ – naïve".encode().decode("cp1252").replace("Ã\u017e", "")


@plant("replacement-characters", 3, "warning", "d0-0", "na[\ufffd]ve")
def _(data):
    for doc_id in ("d0-0", "d1-0", "d2-0"):
        data.documents[doc_id]["text"] += " na\ufffdve"


@plant("html-leftovers", 4, "warning", "[<br />]", "[&nbsp;]", "[</p>]", "[&#8217;]")
def _(data):
    for number, leftover in enumerate(("<br />", "&nbsp;", "</p>", "&#8217;")):
        data.documents[f"d{number}-0"]["text"] += f" one{leftover}two"


@plant("control-characters", 4, "warning", "shrink[\\u00ad]ing", "[\\u0007]", "[\\u200b]")
def _(data):
    for number, odd in enumerate(("shrink\u00ading", "b\u0007ell", "zero\u200bwidth", "\x85")):
        data.documents[f"d{number}-0"]["text"] += f" {odd} end"


@plant("unnormalised-unicode", 3, "note", "caf[e\\u0301]", "[\\u212b]", "identi[\ufb01]ed")
def _(data):
    for number, odd in enumerate(("cafe\u0301", "2.5 \u212b", "identi\ufb01ed")):
        data.documents[f"d{number}-0"]["text"] += f" {odd} end"


@plant("mixed-scripts", 2, "warning", "[\u0421ovid]")
def _(data):
    data.documents["d0-0"]["text"] += " \u0421ovid"  # a Cyrillic letter that looks like C
    data.queries["q1"] += " vir\u0443s"


@plant("other-languages", 3, "note", "german", "q1")
def _(data):
    german = "Das ist ein Text, der nicht in der Sprache der anderen Texte geschrieben ist."
    data.document("german", "Eine andere Sprache", german)
    data.document("russian", "Другой язык", "Этот текст написан на другом языке.")
    data.queries["q1"] = "où est la maison de la famille qui a une porte"


@plant("judgement-holes", 200, "warning", "q0", "2 of 3 not judged")
def _(data):
    kept = {f"d{n}-0" for n in range(QUERIES)}
    data.qrels["test"] = [row for row in data.qrels["test"] if row[1] in kept]
    for number in range(20):
        data.judge(f"q{number}", f"d{number + 50}-1", 0)


@plant("answers-out-of-reach", 50, "note", "q0", "1 of 2 answers")
def _(data):
    for number in range(50):
        data.judge(f"q{number}", f"d{number + 50}-2", 1)


@plant("few-queries", 10, "warning")
def _(data):
    data.queries = {f"q{n}": data.queries[f"q{n}"] for n in range(10)}
    data.qrels["test"] = [row for row in data.qrels["test"] if row[0] in data.queries]


@plant("cut-queries", 6, "warning", "q3", "15 tokens")
def _(data):
    for number in range(6):  # 14 tokens fit
        data.queries[f"q{number}"] += " oh" * (15 - len(data.queries[f"q{number}"].split()))


@plant("cut-documents", 60, "warning", "d3-1", "tokens")
def _(data):
    for number, word in zip(range(60), words(4), strict=False):
        data.documents[f"d{number}-1"]["text"] += f" plus {word}" * 40


@plant("answers-cut-more", 100, "warning")
def _(data):
    for number, word in zip(range(QUERIES), words(5), strict=False):
        data.documents[f"d{number}-0"]["text"] += f" plus {word}" * 12


ALONG = {
    "answers-across-splits": {"queries-without-judgements", "answers-out-of-reach"},
    "answers-cut-more": {"length-tells-grade", "cut-documents"},
    "contradicting-repeats": {"repeated-queries"},
    "copies-graded-apart": {"duplicate-documents"},
    "cut-documents": {"length-tells-grade"},
    "duplicate-documents": {"unjudged-copies"},
    "judgement-holes": {"queries-with-only-answers"},
    "label-skew": {"queries-with-only-answers"},
    "length-tells-grade": {"answers-cut-more", "cut-documents"},
    "long-queries": {"cut-queries"},
    "near-duplicate-documents": {"unjudged-copies"},
    "queries-across-splits": {"repeated-queries"},
    "uneven-judgements": {"answers-out-of-reach"},
    "unjudged-copies": {"near-duplicate-documents"},
}
"""What is truly there as well when a fault is planted; anything else would be a false alarm."""


def test_kinds_have_an_id_a_reason_and_an_advice() -> None:
    ids = [kind.id for kind in KINDS]
    assert len(set(ids)) == len(ids) == 46
    for kind in KINDS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+|mojibake", kind.id)
        for sentence in (kind.why, kind.advice):
            assert sentence[0].isupper() and sentence.endswith((".", ")"))
        assert kind.about[0].islower() or kind.about.startswith(("HTML", "UTF-8", "U+FFFD"))


def test_every_kind_is_planted() -> None:
    assert set(PLANTS) == {kind.id for kind in KINDS}


def test_clean_data_gives_no_finding(tmp_path) -> None:
    report = clean().lint(tmp_path / "data")
    assert report.findings == () and report.skipped == ()
    assert set(report.clean) == set(KINDS)
    assert report.data["documents"] == 300 and report.data["judgements"] == 300


@pytest.mark.parametrize("kind_id", PLANTS)
def test_a_planted_fault_is_found(kind_id, tmp_path) -> None:
    data = clean()
    PLANTS[kind_id][0](data)
    _, count, severity, shown = PLANTS[kind_id]
    report = data.lint(tmp_path / "data", examples=10)
    finding = report.finding(kind_id)
    assert finding is not None, [(f.id, f.title) for f in report.findings]
    assert (finding.count, finding.severity) == (count, severity)
    said = " / ".join(
        f"{' '.join(example.ids)} {example.text} {example.place}" for example in finding.examples
    )
    for piece in shown:
        assert piece in said
    assert finding.share is None or 0 < finding.share <= 1
    assert kind_id not in {kind.id for kind in report.clean}
    assert {found.id for found in report.findings} - {kind_id} == ALONG.get(kind_id, set())


def test_findings_come_with_the_worst_first_and_are_counted(tmp_path) -> None:
    data = clean()
    for kind_id in ("queries-with-only-answers", "missing-documents", "texts-cut-off"):
        PLANTS[kind_id][0](data)
    report = data.lint(tmp_path / "data")
    assert [finding.severity for finding in report.findings] == ["error", "warning", "note"]
    assert report.counted() == "1 error, 1 warning, 1 note"
    assert [line.split(":")[0] for line in report.summary()] == ["error", "warning"]
    assert report.summary()[0].endswith("(missing-documents)")
    assert report.strict().counted() == "2 errors, no warnings, 1 note"
    assert report.counted() == "1 error, 1 warning, 1 note"


def test_a_report_is_plain_json(tmp_path) -> None:
    data = clean()
    PLANTS["missing-documents"][0](data)
    plain = json.loads(json.dumps(data.lint(tmp_path / "data").to_dict(), allow_nan=False))
    assert plain["counts"] == {"error": 1, "warning": 0, "note": 0}
    [finding] = plain["findings"]
    assert finding["id"] == "missing-documents" and finding["share"] == 2 / 302
    assert finding["examples"][0]["place"] == "qrels/test.tsv:302"
    assert finding["why"] and finding["advice"]
    assert len(plain["clean"]) == len(KINDS) - 1
    assert plain["figures"]["grades"] == {"0": 200, "2": 100}


def test_examples_are_as_many_as_asked_for(tmp_path) -> None:
    data = clean()
    PLANTS["texts-cut-off"][0](data)
    collection = read_collection(data.write(tmp_path / "data"))
    assert [len(lint(collection, examples=n).findings[0].examples) for n in (0, 1, 7)] == [0, 1, 7]


# Reading


def test_only_the_split_that_is_asked_for_is_judged_but_all_are_compared(tmp_path) -> None:
    data = clean()
    PLANTS["queries-across-splits"][0](data)
    data.judge("q2", "nowhere", 1, split="train")
    folder = data.write(tmp_path / "data")
    whole, test = (read_collection(folder, split=split) for split in (None, "test"))
    assert lint(whole).data["queries"] == 100 and lint(test).data["queries"] == 51
    assert lint(whole).finding("missing-documents") is not None
    assert lint(test).finding("missing-documents") is None
    assert lint(test).finding("queries-across-splits").count == 1
    assert lint(test).data["splits"] == {"test": 51, "train": 49}
    with pytest.raises(DataError, match="no split 'dev'"):
        read_collection(folder, split="dev")


def test_grades_that_contradict_each_other_across_splits(tmp_path) -> None:
    data = clean()
    data.judge("q0", "d0-0", 1, split="other")
    folder = data.write(tmp_path / "data")
    finding = lint(read_collection(folder)).finding("contradicting-grades")
    assert finding.count == 1
    assert "are graded 2 in test and 1 in other" in finding.examples[0].text
    assert lint(read_collection(folder, split="test")).finding("contradicting-grades") is None


def test_what_load_rejects_is_an_error_and_the_rest_is_the_same(tmp_path) -> None:
    faulty = clean()
    for kind_id in ("missing-documents", "unreadable-rows", "duplicate-ids", "missing-queries"):
        PLANTS[kind_id][0](faulty)
    folder = faulty.write(tmp_path / "faulty")
    with pytest.raises(DataError):
        load(folder)
    collection, loaded = read_collection(folder), load(folder, skip_bad=True)
    assert sum(collection.rows.counts.values()) == loaded.skipped_total == 6
    assert (collection.documents, collection.queries) == (loaded.documents, loaded.queries)
    assert collection.qrels == loaded.qrels


def test_judged_rows_of_a_table(tmp_path) -> None:
    path = tmp_path / "judged.csv"
    rows = [
        ("query", "title", "text", "label"),
        ("red fox", "A red fox", "It is red.", "1"),
        ("red fox", "A blue dog", "It is blue.", "0"),
        ("red fox", "A red fox", "It is red.", "1"),
        ("red fox", "A blue dog", "It is blue.", "1"),
        ("blue dog", "", "", "1"),
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    report = lint(read_collection(path))
    found = {finding.id: finding for finding in report.findings}
    assert found["duplicate-grades"].examples[0].place == f"{path}:4"
    assert found["contradicting-grades"].examples[0].place == f"{path}:5"
    assert "empty" in found["unreadable-rows"].examples[0].text
    assert (report.data["documents"], report.data["judgements"]) == (2, 2)


def test_a_trec_folder(tmp_path) -> None:
    docs = "".join(
        f"<DOC>\n<DOCNO>d{n}</DOCNO>\n<TEXT>red {word} word</TEXT>\n</DOC>\n"
        for n, word in enumerate(("fox", "dog", "cat"))
    )
    (tmp_path / "docs.trec").write_text(docs)
    (tmp_path / "topics.tsv").write_text("q1\tred fox\n")
    (tmp_path / "qrels.txt").write_text("q1 0 d0 1\nq1 0 d9 1\nq1 0 d1 0\nq1 0 d1 0\n")
    report = lint(read_collection(tmp_path))
    assert report.finding("missing-documents").examples[0].place == "qrels.txt:2"
    assert report.finding("duplicate-grades").examples[0].place == "qrels.txt:4"
    assert report.data["judgements"] == 2


def test_without_a_usable_judgement_only_the_rows_are_reported(tmp_path) -> None:
    data = clean()
    data.qrels["test"] = [("q-unknown", "d1-0", "1")]
    report = data.lint(tmp_path / "data")
    assert [finding.id for finding in report.findings] == ["missing-queries"]
    assert report.skipped[0].check == "everything but the rows"
    with pytest.raises(DataError, match="no such file"):
        read_collection(tmp_path / "nowhere")


def test_a_split_of_bad_rows_only_is_reported_and_compared_with_none(tmp_path) -> None:
    data = clean()
    data.judge("q0", "d0-0", "good", split="dev")
    folder = data.write(tmp_path / "data")
    report = lint(read_collection(folder), encoder=word_encoder())
    assert [finding.id for finding in report.findings] == ["unreadable-rows"]
    assert report.findings[0].examples[0].place == "qrels/dev.tsv:2"
    assert lint(read_collection(folder, split="dev")).data["judgements"] == 0


def test_a_loaded_dataset_is_compared_with_its_other_splits(tmp_path) -> None:
    data = clean()
    PLANTS["queries-across-splits"][0](data)
    folder = data.write(tmp_path / "data")
    dataset = load(folder, split="train")
    report = lint(collection_of(dataset, data=folder), encoder=word_encoder())
    assert report.finding("queries-across-splits").count == 1
    assert report.finding("queries-without-judgements") is None
    assert report.data["queries"] == 49
    assert lint(collection_of(dataset)).finding("queries-across-splits") is None


# Thresholds and measures


def test_a_quick_run_skips_slow_checks(tmp_path, monkeypatch) -> None:
    data = clean()
    PLANTS["duplicate-documents"][0](data)
    collection = read_collection(data.write(tmp_path / "data"))
    assert lint(collection, quick=True).finding("duplicate-documents") is not None
    monkeypatch.setattr("ranker.lint.inspection.QUICK_DOCUMENTS", 250)
    quick = lint(collection, quick=True, encoder=word_encoder())
    assert [one.check for one in quick.skipped] == ["copies of documents", "what BM25 shows"]
    assert quick.finding("duplicate-documents") is None and "first_phase" not in quick.figures
    clean_ids = {kind.id for kind in quick.clean}
    assert not {"duplicate-documents", "judgement-holes", "unjudged-copies"} & clean_ids
    assert {"few-queries", "answers-cut-more", "mojibake"} <= clean_ids
    assert lint(collection).finding("duplicate-documents") is not None


def test_without_a_base_model_the_slots_are_skipped(tmp_path) -> None:
    report = clean().lint(tmp_path / "data", encoder=None, no_encoder="torch is not there")
    assert [(one.check, one.reason) for one in report.skipped] == [
        ("texts truncated by the slots", "torch is not there")
    ]
    assert "cut-documents" not in {kind.id for kind in report.clean}


def test_holes_are_counted_by_depth(tmp_path) -> None:
    data = clean()
    data.qrels["test"] = [row for row in data.qrels["test"] if row[1][-1] != "2"]
    report = data.lint(tmp_path / "data")
    by_depth = report.figures["first_phase"]["holes_by_depth"]
    # Every query finds its answer first, then the two others, of which one is judged.
    assert by_depth == pytest.approx([0, 1 / 2, 1 / 3])
    finding = report.finding("judgement-holes")
    assert (finding.count, finding.total) == (100, 300)
    assert finding.figures["top_10"] == finding.figures["top_100"] == pytest.approx(1 / 3)
    assert finding.severity == "warning" and finding.figures["pooled"]


def test_holes_next_to_answers_only_are_a_note(tmp_path) -> None:
    data = clean()
    data.qrels["test"] = [row for row in data.qrels["test"] if row[2] != "0"]
    finding = data.lint(tmp_path / "data").finding("judgement-holes")
    assert (finding.severity, finding.figures["pooled"]) == ("note", False)


def test_the_minimum_grade_of_an_answer_counts(tmp_path) -> None:
    collection = read_collection(clean().write(tmp_path / "data"))
    assert lint(collection, min_grade=2).finding("queries-without-answer") is None
    assert lint(collection, min_grade=3).finding("queries-without-answer").count == 100


def test_tokens_are_counted_exactly(tmp_path) -> None:
    data = Planted()
    for number, length in enumerate((10, 41, 42, 82)):  # 41 fit: 42 slots less one separator
        data.document(f"d{number}", "", " ".join(["word"] * length))
        data.judge("q", f"d{number}", number % 2)
    data.queries["q"] = "word"
    tokens = data.lint(tmp_path / "data").figures["document_tokens"]
    assert (tokens["slots"], tokens["longest"], tokens["median"]) == (41, 82, 41.5)
    assert tokens["cut"] == 0.5 and tokens["lost"] == pytest.approx((1 + 41) / (10 + 41 + 42 + 82))
    assert sum(tokens["counts"]) == 4


def test_more_queries_make_the_expected_interval_narrower(tmp_path) -> None:
    few, many = clean(), clean()
    PLANTS["few-queries"][0](few)
    narrow, wide = (
        data.lint(tmp_path / name).figures["half_width"]
        for name, data in (("many", many), ("few", few))
    )
    assert wide == pytest.approx(narrow * 10**0.5)


# Copies


def test_copies_are_those_that_comparing_all_pairs_finds() -> None:
    rng, vocabulary = random.Random(3), list(itertools.islice(words(), 400))
    texts = {}
    for number in range(120):
        base = rng.choices(vocabulary, k=rng.randint(1, 40))
        texts[f"{number}"] = " ".join(base)
        for copy in range(rng.randint(0, 3)):
            changed = list(base)
            for _ in range(rng.randint(0, 3)):
                changed[rng.randrange(len(changed))] = rng.choice(vocabulary)
            texts[f"{number}.{copy}"] = " ".join(changed)
    found = document_copies(texts.items())
    assert {frozenset(group) for group in found.families} == families_of_all_pairs(texts)
    assert len(found.families) > 20 and len(found.equal) > 5
    for group in found.equal:
        assert len({texts[text_id] for text_id in group}) == 1


def families_of_all_pairs(texts):
    """Groups that near-copies connect, by comparing every text with every other."""
    runs = {}
    for text_id, text in texts.items():
        row = text.split()
        runs[text_id] = {tuple(row[at : at + RUN]) for at in range(len(row) - RUN + 1)}
    group_of = {text_id: {text_id} for text_id in texts}
    for one in texts:
        for other in texts:
            shared, both = runs[one] & runs[other], runs[one] | runs[other]
            alike = both and 5 * len(shared) >= 4 * len(both)
            if alike or texts[one] == texts[other]:
                merged = group_of[one] | group_of[other]
                for text_id in merged:
                    group_of[text_id] = merged
    return {frozenset(group) for group in group_of.values() if len(group) > 1}


def test_copies_differ_only_in_case_and_punctuation() -> None:
    texts = {
        "a": "Red fox!",
        "b": "red  FOX",
        "c": "fox red",
        "d": "",
        "e": " ",
        "f": "ФОКС",
        "g": "фокс",
    }
    assert document_copies(texts.items()).equal == [["a", "b"], ["f", "g"]]
    assert sorted(document_copies(texts.items()).families) == [["a", "b"], ["f", "g"]]
    assert document_copies([]).families == []


def test_templates_with_other_words_are_not_copies() -> None:
    texts = [(f"{n}", f"Report on week {n} of year {n + 1}") for n in range(20)]
    assert document_copies(texts).families == []


# Characters and languages


@pytest.mark.parametrize(
    "text",
    [
        "Zürich, São Tomé, naïve café, Ærø and Ångström’s “quotes” – at 10 µm or 5 °C",
        "TGF-β1, α-helix, Δψm; κB, 5′-UTR, p ≤ 0.05, ± 2 ‰",
        "if a < b and c > d then R&D at AT&T; x <- y; List<String> & Map<a, b>",
        "L’Île à l’été; «Ça va?» CAFÉ» Ö, Ä, Å and Ñ",
        "Nguyễn Văn Đ., Čapek, Łódź, İstanbul",
        "a family 👨\u200d👩\u200d👧 and Persian می\u200cخواهم",
        "tabs\tand\r\nlines\u00a0with\u202fno-break spaces",
        "Москва and Kyiv (Київ); the Δ of Ελλάδα",
        "bonds of 1.2 Å–1.5 Å, or 3Å’",
    ],
)
def test_correct_text_is_not_reported(text, tmp_path) -> None:
    data = clean()
    for number in range(20):
        data.documents[f"d{number}-0"]["text"] += f" {unicodedata.normalize('NFC', text)}"
    assert {f.id for f in data.lint(tmp_path / "data").findings} <= {
        "judgement-holes", "cut-documents", "answers-cut-more", "length-tells-grade"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "right"),
    [("Ã©", "é"), ("â€™", "’"), ("Â°", "°"), ("Î±", "α"), ("ÃŸ", "ß"), ("Â\u00a0", "\u00a0")],
)
def test_mojibake_is_repaired(text, right) -> None:
    assert right.encode().decode("cp1252") == text
    assert repaired(text) == right


def test_what_is_not_mojibake_is_not_repaired() -> None:
    assert repaired("é") is None and repaired("Åé") is None and repaired("日") is None


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("measurement of dielectric constant of liquids by the use of microwave techniques", False),
        ("compact memories have flexible capacities", False),
        ("le role de la vitesse dans les reactions et le transport des ions", True),
        ("COVID-19 bei Krebspatienten und die Rolle der Impfung für das Immunsystem", True),
        ("Guía sobre el uso de la acupuntura en el tratamiento de los pacientes", True),
        ("東京は日本の首都です", True),
        ("TGF-β and NF-κB", False),
        ("α", False),
        ("de novo synthesis of the protein in vitro and in vivo by the cell", False),
        ("las vegas", False),
        ("", False),
    ],
)
def test_languages_are_distinguished(text, foreign) -> None:
    assert is_foreign(text) is foreign


@pytest.mark.parametrize(
    ("library", "kind_id", "check"),
    [("ftfy", "mojibake", "mojibake"), ("py3langid", "other-languages", "other languages")],
)
def test_without_the_extra_a_check_is_skipped_and_the_others_are_made(
    library: str, kind_id: str, check: str, tmp_path, monkeypatch
) -> None:
    """Skipped, never clean."""
    data = clean()
    PLANTS["mojibake"][0](data)
    PLANTS["other-languages"][0](data)
    folder = data.write(tmp_path / "data")
    both = {"mojibake", "other-languages"}
    report = lint(read_collection(folder))
    assert both <= {finding.id for finding in report.findings}
    _language_identifier.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    report = lint(read_collection(folder))
    skipped = {one.check: one for one in report.skipped}[check]
    assert skipped.kinds == (kind_id,)
    assert skipped.reason.endswith("it comes with: pip install 'ranker[lint]'")
    assert {finding.id for finding in report.findings} & both == both - {kind_id}
    assert kind_id not in {kind.id for kind in report.clean}


# Words and pictures


def test_examples_show_what_does_not_print() -> None:
    assert clip("a\x1b[31mred\u202e\ud800\n b") == "a [31mred\\u202e b"
    assert len(clip("word " * 100)) <= 160 and clip("word " * 100).endswith("…")


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    shown = [percent(share) for share in (0, 1e-6, 0.0049, 0.5, 0.996, 0.999999, 1)]
    assert shown == ["0 %", "< 0.1 %", "0.5 %", "50 %", "99.6 %", "> 99.9 %", "100 %"]


def test_pictures_mark_the_limit_and_the_depths() -> None:
    named = {"axis": "tokens", "title": "Documents"}
    bars = histogram(
        [3] * 30, width=10, limit=95, limit_label="95 tokens fit", ident="x", text="", **named
    )
    assert "95 tokens fit" in bars and bars.count(f"fill: {BETTER}") == 10
    assert bars.count(f"fill: {WORSE}") == 20
    assert "<title>90–99: 3</title>" in bars and "<title>290 or more: 3</title>" in bars
    shares = [at / 100 for at in range(100)]
    curve = share_curve(shares, {10: "9 %", 20: "19 %", 100: "99 %"}, ident="y", **named)
    assert curve.count("<use") == 3 and "top 20: 19 %" in curve
    assert share_curve([0.5], {}, ident="z", **named).count("<use") == 0


@pytest.fixture
def hostile(tmp_path):
    """Data whose texts, ids and splits are attacks, in every place that the page shows."""
    data = clean()
    data.document("d<b>0", EVIL, f"{EVIL}...")
    data.document("d<b>1", EVIL, f"{EVIL} \ufffd Ã© \u202e \x07")
    data.queries["q<i>"] = f"{EVIL} [bold]x[/bold] \x1b[31m"
    for doc_id, grade in (("d<b>0", 1), ("d<b>1", 0), (f"{EVIL.replace(' ', '')}", 1)):
        data.judge("q<i>", doc_id, grade)
    data.judge("q<i>", "d<b>0", 0, split="<b>dev")
    PLANTS["texts-cut-off"][0](data)
    return data.write(tmp_path / "hostile<b>&")


def test_page_is_valid_and_escapes_what_is_hostile(hostile, tmp_path) -> None:
    report = lint(read_collection(hostile), encoder=word_encoder(), examples=200)
    out = page(report, tmp_path / "lint.html")
    shown = read(out)
    tags = {name for name, _ in shown.tags}
    assert not tags & {"script", "img", "i", "b", "iframe", "object", "form"}
    assert not [key for _, attributes in shown.tags for key in attributes if key.startswith("on")]
    addresses = [
        value
        for _, attributes in shown.tags
        for key, value in attributes.items()
        if key in ("src", "href", "data", "action")
    ]
    assert [value for value in addresses if not value.startswith(("#", "data:,"))] == []
    idents = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(idents) == len(set(idents))
    labels = [a["aria-labelledby"] for _, a in shown.tags if "aria-labelledby" in a]
    assert {ident for label in labels for ident in label.split()} <= set(idents)
    assert len(shown.all("svg")) == 4
    text = shown.words()
    assert 'alert("x")' in text and "hostile<b>&" in text and "33605307" not in text
    for finding in report.findings:
        assert finding.title in text and finding.kind.advice in text
    assert "\x1b" not in out.read_text(encoding="utf-8")
    saved = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert saved["counts"]["error"] == len(report.of("error")) > 0


def test_page_of_clean_data_and_bad_names(tmp_path) -> None:
    report = clean().lint(tmp_path / "data", encoder=None)
    text = read(page(report, tmp_path / "new" / "lint.html")).words()
    assert "No findings." in text and f"Checks without findings ({len(report.clean)})" in text
    assert "Skipped: texts truncated by the slots: no base model was given" in text
    with pytest.raises(UsageError, match=r"ends in \.html"):
        page(report, tmp_path / "lint.pdf")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ArtifactError, match="a folder of that name"):
        page(report, tmp_path / "folder.html")


# The verb


def test_verb_shows_findings_and_ends_with_0(tmp_path, capsys) -> None:
    data = clean()
    PLANTS["texts-cut-off"][0](data)
    folder = data.write(tmp_path / "data")
    assert main(["lint", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "100 of 300 (33 %) documents end in three dots" in shown and "texts-cut-off" in shown
    assert "corpus.jsonl:1" in shown and "→ Export the whole texts" in shown
    assert main(["lint", str(folder), "--strict"]) == 1
    assert "1 error" in capsys.readouterr().out


def test_verb_ends_with_1_on_errors_and_writes_page_json_and_options(tmp_path, capsys) -> None:
    data = clean()
    PLANTS["missing-documents"][0](data)
    folder, out = data.write(tmp_path / "data"), tmp_path / "out" / "lint.html"
    assert main(["lint", str(folder), "--json", "--out", str(out)]) == 1
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert (printed["counts"]["error"], printed["page"]) == (1, str(out))
    assert "Traceback" not in captured.err
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "lint.html", "lint.html.toml", "lint.json"
    ]  # fmt: skip
    again = ["--config", str(out.with_name("lint.html.toml")), "lint", str(folder), "--json"]
    assert main(again) == 1
    saved = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    for report in (again := json.loads(capsys.readouterr().out), printed):
        report.pop("page"), report.pop("seconds")
    assert again == printed == {key: saved[key] for key in printed}


def test_no_text_controls_the_terminal(hostile, capsys) -> None:
    assert main(["lint", str(hostile), "--examples", "50"]) == 1
    shown = capsys.readouterr().out
    assert "[bold]x[/bold]" in " ".join(shown.split()) and "{{7*5801}}" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_verb_rejects_bad_names_before_it_starts(tmp_path, capsys) -> None:
    assert main(["lint", str(tmp_path), "--out", str(tmp_path / "lint.pdf")]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert main(["lint", str(tmp_path / "nowhere")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_training_reports_problems_and_continues(tmp_path, tiny_bert, capsys) -> None:
    data = clean()
    PLANTS["texts-cut-off"][0](data)
    PLANTS["few-queries"][0](data)
    folder, out = data.write(tmp_path / "data"), tmp_path / "checkpoint"
    train = ["train", str(folder), "--base", str(tiny_bert), "--epochs", "1", "--negatives", "1"]
    assert main([*train, "--out", str(out)]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lint: ")]
    assert any(line.endswith("(texts-cut-off)") for line in lines)
    assert any(line.startswith("lint: warning: 10 judged queries") for line in lines)
    assert lines[-1].endswith(f"for examples and advice, run: ranker lint {folder}")
    assert main([*train, "--out", str(tmp_path / "other"), "--no-lint"]) == 0
    assert "lint:" not in capsys.readouterr().err


def test_holes_are_counted_as_deep_as_there_are_hits(tmp_path) -> None:
    data = Planted()
    for number in range(24):
        data.document(f"d{number}", f"red {number}", "Something red is told here, and at length.")
    data.queries["q1"] = "red"
    data.judge("q1", "d0", 1)
    by_depth = data.lint(tmp_path / "data").figures["first_phase"]["holes_by_depth"]
    assert len(by_depth) == 24 and by_depth[-1] == pytest.approx(23 / 24)


@pytest.mark.parametrize("kind_id", ["texts-cut-off", "titles-repeated"])
def test_a_fault_of_every_text_is_reported(kind_id: str, tmp_path) -> None:
    data = clean()
    for row in data.documents.values():
        row["text"] = f"{row['title']} . {row['text']}.."
    finding = data.lint(tmp_path / "data").finding(kind_id)
    assert (finding.severity, finding.count, finding.total) == ("warning", 300, 300)


def test_two_scores_of_a_teacher_contradict_each_other(tmp_path) -> None:
    """`load` rejects them, regardless of the grades."""
    (tmp_path / "t.csv").write_text(
        "query,title,label,teacher_score\nred,fox,1,1\nred,fox,1,2\nred,fox,1,1\nred,dog,0,0\n"
    )
    report = lint(read_collection(tmp_path / "t.csv"))
    assert report.finding("contradicting-grades").count == 1
    assert report.finding("duplicate-grades").count == 1
