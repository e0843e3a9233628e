"""Judged data: every format is read back as it was written, in every way of writing it."""

import csv
import gzip
import json
import os
import tempfile
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.dataset import Dataset, load, read_corpus, require_trainable, split_names
from ranker.errors import DataError
from ranker.records import Document, Query

COLLECTIONS = Path(os.environ.get("RANKER_COLLECTIONS", "no such folder"))

DOCUMENTS = [
    {"_id": "d1", "title": "Wings", "text": 'lift, "drag" and\nflow'},
    {"_id": "d2", "title": "", "text": "heat in a plate"},
    {"_id": "d3", "title": "Empty", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "lift of a wing"}, {"_id": "q2", "text": "heat"}]
QRELS = {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}

ids = st.text(st.characters(categories=["L", "N"], include_characters="-_./:"), min_size=1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
graded = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 4)), st.integers(0, 4), min_size=1, max_size=12
)


def jsonl(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_beir(folder: Path, documents=DOCUMENTS, queries=QUERIES, **qrels) -> Path:
    """`qrels`: judgements by the name of their split."""
    jsonl(folder / "corpus.jsonl", documents)
    jsonl(folder / "queries.jsonl", queries)
    (folder / "qrels").mkdir(exist_ok=True)
    for split, grades in (qrels or {"test": QRELS}).items():
        rows = [f"{q}\t{d}\t{grade}\n" for q, row in grades.items() for d, grade in row.items()]
        (folder / "qrels" / f"{split}.tsv").write_text(
            "query-id\tcorpus-id\tscore\n" + "".join(rows)
        )
    return folder


def content(data: Dataset) -> tuple:
    return (data.documents, data.queries, data.qrels)


def expected(documents=DOCUMENTS, queries=QUERIES, qrels=QRELS) -> tuple:
    return (
        {row["_id"]: Document(row["_id"], row["title"], row["text"]) for row in documents},
        {row["_id"]: Query(row["_id"], row["text"]) for row in queries if row["_id"] in qrels},
        qrels,
    )


def judged_rows() -> list[dict]:
    documents = {row["_id"]: row for row in DOCUMENTS}
    queries = {row["_id"]: row["text"] for row in QUERIES}
    return [
        {
            "query": queries[query_id],
            "title": documents[doc_id]["title"],
            "text": documents[doc_id]["text"],
            "label": grade,
            "query_id": query_id,
            "doc_id": doc_id,
        }
        for query_id, grades in QRELS.items()
        for doc_id, grade in grades.items()
    ]


# BEIR


@settings(max_examples=60, deadline=None)
@given(
    doc_ids=st.lists(ids, min_size=5, max_size=5, unique=True),
    query_ids=st.lists(ids, min_size=5, max_size=5, unique=True),
    words=st.lists(st.text(), min_size=15, max_size=15),
    grades=graded,
)
def test_a_beir_folder_is_read_back_as_written(doc_ids, query_ids, words, grades):
    documents = [
        {"_id": id_, "title": words[n], "text": words[n + 5]} for n, id_ in enumerate(doc_ids)
    ]
    queries = [{"_id": id_, "text": words[n + 10] + "?"} for n, id_ in enumerate(query_ids)]
    qrels: dict = {}
    for (query, document), grade in grades.items():
        qrels.setdefault(query_ids[query], {})[doc_ids[document]] = grade
    with tempfile.TemporaryDirectory() as folder:
        data = load(write_beir(Path(folder), documents, queries, test=qrels))
        assert list(read_corpus(folder)) == list(data.documents.values())
    assert content(data) == expected(documents, queries, qrels)


def test_splits_are_read_alone_or_together(tmp_path):
    train, dev = {"q1": {"d1": 2}}, {"q2": {"d2": 1}, "q1": {"d2": 0, "d1": 2}}
    write_beir(tmp_path / "toy", train=train, dev=dev)
    assert split_names(tmp_path / "toy") == ("dev", "train")
    one = load(tmp_path / "toy", split="train")
    assert (one.name, one.split, one.qrels, list(one.queries)) == ("toy", "train", train, ["q1"])
    assert len(one.documents) == 3
    both = load(tmp_path / "toy")
    assert both.split is None
    assert both.qrels == QRELS


def test_gzip_no_header_blank_lines_bom_and_windows_line_ends(tmp_path):
    plain = load(write_beir(tmp_path / "plain"))
    packed = tmp_path / "packed"
    (packed / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl"):
        data = (tmp_path / "plain" / name).read_bytes().replace(b"\n", b"\r\n\r\n")
        (packed / f"{name}.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + data))
    (packed / "qrels" / "test.tsv.gz").write_bytes(
        gzip.compress(b"q1\td1\t2\r\nq1\td2\t0.0\r\n\r\nq2\td2\t1\r\n")
    )
    assert content(load(packed)) == content(plain)
    assert load(packed, split="test").sha256 == plain.sha256


def test_numbers_as_ids_and_four_columns(tmp_path):
    write_beir(
        tmp_path, [{"_id": 7, "title": None, "text": "seven"}], [{"_id": 1, "text": "what"}], x={}
    )
    (tmp_path / "qrels" / "x.tsv").write_text("1 0 7 3\n")
    data = load(tmp_path)
    assert data.documents == {"7": Document("7", "", "seven")}
    assert data.qrels == {"1": {"7": 3}}


# TREC

SGML_TOPICS = """<top>

<num> Number: q1
<title> lift of
 a wing

<desc> Description:
Documents on &lt;lift&gt;.
</top>
<top><num>q2</num><title>Topic: heat</title></top>
"""
XML_TOPICS = """<?xml version="1.0"?>
<topics task="toy">
  <topic number="q1"><query>lift of a wing</query><question>?</question></topic>
  <topic number="q2">
    <query>heat</query>
  </topic>
</topics>
"""
SGML_DOCUMENTS = """<DOC>
<DOCNO> d1 </DOCNO>
<TITLE>Wings</TITLE>
<TEXT>lift, "drag"
<P>and</P> flow</TEXT>
</DOC>
<DOC><DOCNO>d2</DOCNO> heat in &#97; plate</DOC><doc><docno>d3</docno><headline>Empty</headline>
<text></text></doc>
"""
TREC_QRELS = "q1 0 d1 2\nq1 0 d2 0\nq2 0 d2 1\n"


def one_line(documents=DOCUMENTS) -> list[dict]:
    return [{key: " ".join(value.split()) for key, value in row.items()} for row in documents]


@pytest.mark.parametrize(
    ("name", "topics"),
    [
        ("topics.txt", SGML_TOPICS),
        ("toy-topics.xml", XML_TOPICS),
        ("queries.tsv", "q1\tlift of a wing\nq2\theat\n"),
        ("topics", "qid\tquery\nq1\tlift of a wing\nq2\theat\n"),
        ("queries.jsonl", '{"qid": "q1", "query": "lift of a wing"}\n{"id": "q2", "text": "heat"}'),
    ],
)
@pytest.mark.parametrize(
    ("corpus", "text"),
    [
        ("docs.trec", SGML_DOCUMENTS),
        ("documents/part.txt", SGML_DOCUMENTS),
        ("collection.jsonl", "".join(json.dumps(row) + "\n" for row in one_line())),
        ("corpus.tsv", "".join("\t".join(row.values()) + "\n" for row in one_line())),
    ],
)
def test_trec_files_in_their_usual_formats(tmp_path, name, topics, corpus, text):
    (tmp_path / corpus).parent.mkdir(exist_ok=True)
    (tmp_path / corpus).write_text(text)
    (tmp_path / name).write_text(topics)
    (tmp_path / "qrels.toy.txt").write_text(TREC_QRELS)
    data = load(tmp_path)
    assert content(data) == expected(one_line())
    assert split_names(tmp_path) == ()
    assert list(read_corpus(tmp_path)) == list(data.documents.values())


def test_trec_qrels_files_are_splits_and_document_folders_are_read_in_order(tmp_path):
    (tmp_path / "docs" / "b").mkdir(parents=True)
    (tmp_path / "docs" / "a").write_text("<DOC><DOCNO>d1</DOCNO>one</DOC>")
    (tmp_path / "docs" / "b" / "c.gz").write_bytes(gzip.compress(b"<DOC><DOCNO>d2</DOCNO>x</DOC>"))
    (tmp_path / "topics.txt").write_text(SGML_TOPICS)
    (tmp_path / "qrels.train.txt").write_text("q1 0 d1 1\n")
    (tmp_path / "qrels.test.txt").write_text("q2 0 d2 1\n")
    assert split_names(tmp_path) == ("test", "train")
    assert load(tmp_path, split="test").qrels == {"q2": {"d2": 1}}
    assert load(tmp_path).qrels == {"q1": {"d1": 1}, "q2": {"d2": 1}}
    assert list(load(tmp_path).documents) == ["d1", "d2"]


def test_a_topic_may_be_its_text_and_a_document_may_have_several_texts(tmp_path):
    (tmp_path / "topics.xml").write_text('<topic number="1">a patient of 60 years</topic>')
    (tmp_path / "qrels").write_text("1 0 d 1\n")
    (tmp_path / "docs").write_text(
        "<DOC><DOCNO>d</DOCNO><DATE>1 May</DATE><HEADLINE><P>Head &amp; line</P></HEADLINE>"
        "<LEADPARA>lead</LEADPARA><TEXT>a < b</TEXT><BYLINE>me</BYLINE></DOC>"
    )
    data = load(tmp_path)
    assert data.queries["1"].text == "a patient of 60 years"
    assert data.documents["d"] == Document("d", "Head & line", "lead a < b")


# Judged rows


def write_rows(path: Path, rows: list[dict]) -> Path:
    frame = pandas.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_judged_rows_with_ids_equal_the_beir_folder(tmp_path, suffix):
    data = load(write_rows(tmp_path / f"toy{suffix}", judged_rows()))
    judged = expected()
    del judged[0]["d3"]  # unjudged
    assert content(data) == judged
    write_beir(tmp_path / "beir", DOCUMENTS[:2])
    assert data.sha256 == load(tmp_path / "beir").sha256
    assert (data.name, data.split, data.skipped) == ("toy", None, ())


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(texts, texts, texts, st.integers(0, 3)), min_size=1, max_size=6))
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_that_pandas_writes_are_read_back(suffix, rows):
    # What pandas leaves unquoted, so that it cannot be read back by pandas either.
    flat = dict.fromkeys(map(ord, {".tsv": "\t\n\r", ".csv": "\r"}.get(suffix, "")), " ")
    rows = [
        {"query": f"q {q}".translate(flat), "title": f"t{t}".translate(flat),
         "text": x.translate(flat), "label": g}
        for q, t, x, g in {(q, t, x): (q, t, x, g) for q, t, x, g in rows}.values()
    ]  # fmt: skip
    if len({(row["query"], row["title"], row["text"]) for row in rows}) < len(rows):
        return  # equal once flattened
    with tempfile.TemporaryDirectory() as folder:
        data = load(write_rows(Path(folder) / f"x{suffix}", rows))
    got = {
        (data.queries[q].text, data.documents[d].title, data.documents[d].text, grade)
        for q, grades in data.qrels.items()
        for d, grade in grades.items()
    }
    assert got == {tuple(row.values()) for row in rows}


def test_ids_are_content_hashes_equal_in_every_file(tmp_path):
    (tmp_path / "a.csv").write_text("query,title,label\nheat,Plates,1\nheat,Wings,0\n")
    (tmp_path / "b.tsv").write_text("label\ttitle\tquery\ttext\n1.0\tPlates\theat\t\n")
    one, other = load(tmp_path / "a.csv"), load(tmp_path / "b.tsv")
    # sha256 of ["heat"] and of ["Plates", ""], as any tool can compute them.
    assert list(one.queries) == ["q-79d43ee5734f"] == list(other.queries)
    assert list(other.qrels["q-79d43ee5734f"]) == ["d-9183c26e4b1a"]
    assert one.qrels["q-79d43ee5734f"]["d-9183c26e4b1a"] == 1


def test_the_same_judgement_twice_is_one(tmp_path):
    (tmp_path / "a.csv").write_text("query,title,label\nheat,Plates,1\nheat,Plates,1\n")
    assert [list(grades.values()) for grades in load(tmp_path / "a.csv").qrels.values()] == [[1]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "query\ttitle\tlabel\nheat\tPlates, flat\t1\n"),
        ("b", "query,title,label\nheat,'Plates, flat',1\n".replace("'", '"')),
        ("c.data", '\n{"query": "heat", "title": "Plates, flat", "label": "1"}\n'),
    ],
)
def test_the_format_is_detected_by_the_content(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    (document,) = load(tmp_path / name).documents.values()
    assert document.title == "Plates, flat"


def test_quotes_of_a_tsv_are_those_that_pandas_writes(tmp_path):
    (tmp_path / "a.tsv").write_text(
        'query\ttitle\tlabel\n5" pipe\t"say ""hi"""\t1\n"raw" words\t"a" and "b"\t1\n'
    )
    data = load(tmp_path / "a.tsv")
    assert {query.text for query in data.queries.values()} == {'5" pipe', '"raw" words'}
    assert {d.title for d in data.documents.values()} == {'say "hi"', '"a" and "b"'}


def test_a_field_longer_than_the_csv_librarys_limit(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["query", "text", "label"], ["q", "word " * 100_000, 1]])
    (document,) = load(tmp_path / "a.csv").documents.values()
    assert len(document.text) == 500_000


def test_line_ends_of_every_kind_inside_quotes_are_text(tmp_path):
    title = "one\ntwo\r\nthree\rfour\u2028five\x0bsix"
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["query", "title", "label"], ["q", title, 1], ["r", "x", 1]])
    assert [document.title for document in load(tmp_path / "a.csv").documents.values()] == [
        title,
        "x",
    ]


def test_control_characters_and_nul_are_kept_for_the_encoder_to_clean(tmp_path):
    (tmp_path / "a.csv").write_text("query,title,label\nhe\x00at,Pla\x07tes,1\n")
    (document,) = load(tmp_path / "a.csv").documents.values()
    assert document.title == "Pla\x07tes"


# The value


def test_the_hash_depends_on_every_change_but_not_on_order(tmp_path):
    one = load(write_beir(tmp_path / "one"))
    two = load(
        write_beir(
            tmp_path / "two", DOCUMENTS[::-1], QUERIES[::-1], a=dict(reversed(QRELS.items()))
        )
    )
    assert one.sha256 == two.sha256
    changes = [
        ([{**DOCUMENTS[0], "title": "", "text": "Wings" + DOCUMENTS[0]["text"]}, *DOCUMENTS[1:]],
         QUERIES, QRELS),
        (DOCUMENTS, [{**QUERIES[0], "text": "lift"}, QUERIES[1]], QRELS),
        (DOCUMENTS, QUERIES, {**QRELS, "q2": {"d2": 2}}),
        (DOCUMENTS, QUERIES, {**QRELS, "q2": {"d1": 1}}),
    ]  # fmt: skip
    hashes = {
        load(write_beir(tmp_path / f"x{n}", documents, queries, test=qrels)).sha256
        for n, (documents, queries, qrels) in enumerate(changes)
    }
    assert len(hashes | {one.sha256}) == 5


def test_one_class_can_be_loaded_but_training_without_positives_is_rejected(tmp_path):
    (tmp_path / "zeros.csv").write_text("query,title,label\na,x,0\nb,y,0\n")
    (tmp_path / "ones.csv").write_text("query,title,label\na,x,1\nb,y,1\n")
    (tmp_path / "all.csv").write_text("query,title,label\na,x,1\na,y,1\n")
    require_trainable(load(tmp_path / "ones.csv"))  # the other query's document ranks below
    with pytest.raises(DataError, match="zeros: cannot train: all 2 labels are 0; expected"):
        require_trainable(load(tmp_path / "zeros.csv"))
    with pytest.raises(DataError, match="all: cannot train: all 2 documents are equally relevant"):
        require_trainable(load(tmp_path / "all.csv"))


@pytest.mark.collections
@pytest.mark.skipif(not COLLECTIONS.exists(), reason="RANKER_COLLECTIONS names no folder")
@pytest.mark.parametrize(
    ("name", "documents", "queries", "judgements"),
    [
        ("vaswani", 11429, 93, {"test": 2083}),
        ("scifact", 5183, 1109, {"test": 339, "train": 919}),
        ("cranfield", 1400, 225, {"test": 1837, "test-no-source": 1612}),
        ("trec-covid-mini", 1007, 50, {"test": 2442}),
    ],
)
def test_the_judged_collections_have_the_counts_of_their_sources(
    name, documents, queries, judgements
):
    data = load(COLLECTIONS / name)
    assert (len(data.documents), len(data.queries)) == (documents, queries)
    counts = {
        split: sum(map(len, load(COLLECTIONS / name, split=split).qrels.values()))
        for split in split_names(COLLECTIONS / name)
    }
    assert counts == judgements
