"""Bad judged data: one line that says what, where and why; or left out, counted and listed."""

import gzip
import json
import logging
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from ranker.dataset import load, split_names
from ranker.errors import DataError, UsageError

GOOD = "query,title,label\nheat,Plates,1\n"
HALF_GZIP = gzip.compress(GOOD.encode() * 99, mtime=0)[:-9]


def message(data, **options) -> str:
    with pytest.raises(DataError) as error:
        load(data, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def beir(tmp_path):
    """A folder to break: three documents, two queries, three judgements."""
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{n}", "title": "", "text": "x"}) + "\n" for n in (1, 2, 3))
    )
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "heat"}\n{"_id": "q2", "text": "lift"}\n'
    )
    (tmp_path / "qrels" / "test.tsv").write_text("q1\td1\t1\nq1\td2\t0\nq2\td3\t2\n")
    return tmp_path


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("heat,Plates,nan", "label 'nan' is not a whole number"),
        ("heat,Plates,inf", "label 'inf' is not a whole number"),
        ("heat,Plates,0.5", "label '0.5' is not a whole number"),
        ("heat,Plates,-1", "label '-1' is negative; grades start at 0"),
        ("heat,Plates,yes", "label 'yes' is not a number"),
        ("heat,Plates, ", "the label is empty"),
        ("  ,Plates,1", "the query is empty"),
        ("heat,,1", "title and text are both empty"),
        ("heat,Plates", "expected 3 columns, got 2"),
        ("heat,Pla,tes,1", "expected 3 columns, got 4"),
        ('heat,"Pla" tes,1', "not CSV (',' expected after '\"')"),
        ('heat,"Plates,1\n\n', "not CSV (unexpected end of data)"),
        (b"heat,Pl\xe9tes,1", "not UTF-8 (byte 0xe9 at offset 39); convert the file"),
        ("heat,Plates,0", "query 'heat' and document 'Plates' (d-9183c26e4b1a) are graded 0 here "
                          "and 1 before"),
    ],
)  # fmt: skip
def test_a_bad_row_of_a_csv(tmp_path, row, reason):
    path = tmp_path / "rows.csv"
    path.write_text(GOOD)
    append(path, row)
    assert message(path).startswith(f"{path}, line 3: {reason}")
    data = load(path, skip_bad=True)
    assert len(data.qrels) == data.skipped_total == 1
    assert data.skipped[0].startswith(f"{path}, line 3: {reason}")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON (Expecting property name enclosed in double quotes in column 1); expected"),
        ("[1]", "expected one JSON object per line, got a list"),
        ("[" * 100_000, "JSON that cannot be read (maximum recursion depth exceeded"),
        ('{"query": "a", "title": "b"}', "no label (found: query, title)"),
        ('{"query": 5, "title": "b", "label": 1}', "the query is 5, expected text"),
        ('{"query": "a", "title": ["b"], "label": 1}', "title is ['b'], expected text"),
        ('{"query": "a", "title": "b", "label": true}', "label True is not a number"),
        ('{"query": "a", "title": "b", "label": NaN}', "label nan is not a whole number"),
        ('{"query": "a", "title": "b", "label": null}', "the label is empty"),
        ('{"query": "a", "title": "b", "label": 1, "doc_id": 1.5}', "doc_id is 1.5, expected text"),
        ('{"query": "a", "title": "b", "label": 1, "doc_id": "a b"}', "doc_id 'a b' holds a space"),
        ('{"query": "a", "title": "b", "label": 1, "doc_id": "\\u0007"}', r"doc_id '\x07' holds"),
        ('{"query": "a", "title": "b", "label": 1, "query_id": "q"}',
         "query id 'q' came before with another text"),
        ('{"query": "heat", "title": "b", "label": 1, "doc_id": "d"}',
         "document id 'd' came before with another title or text"),
    ],
)  # fmt: skip
def test_a_bad_row_of_json_lines(tmp_path, row, reason):
    path = tmp_path / "rows.jsonl"
    good = {"query": "heat", "title": "Plates", "label": 1, "query_id": "q", "doc_id": "d"}
    path.write_text(json.dumps(good) + "\n\n" + row + "\n")
    assert message(path).startswith(f"{path}, line 3: {reason}")
    assert load(path, skip_bad=True).skipped_total == 1


def test_bad_rows_of_parquet(tmp_path):
    # A string column with bytes that are not UTF-8, as a careless writer makes it.
    words = pyarrow.StringArray.from_buffers(
        3, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0\4\0\0\0"), pyarrow.py_buffer(b"ab\xffc")
    )
    path = tmp_path / "rows.parquet"
    table = {"query": ["x", "y", "z"], "title": words, "label": [1.0, 0.0, float("nan")]}
    parquet.write_table(pyarrow.table(table), path)
    assert message(path).startswith(
        f"{path}, row 2: not UTF-8 (invalid start byte at byte 1 of a cell); "
        "row 3: label nan is not a whole number ("
    )
    assert list(load(path, skip_bad=True).documents.values())[0].title == "a"


@pytest.mark.parametrize(
    ("file", "row", "reason"),
    [
        ("corpus.jsonl", '{"title": "x"}', "no _id, doc_id, docno or id (found: title)"),
        ("corpus.jsonl", '{"_id": "d9"}', "no text, body, contents or abstract (found: _id)"),
        ("corpus.jsonl", '{"_id": "", "text": "x"}', "_id is empty"),
        ("corpus.jsonl", '{"_id": "d2", "text": "y"}', "document id 'd2' came before"),
        ("corpus.jsonl", '{"_id": "d2", "title": "", "text": "x"}', "document id 'd2' came before"),
        ("queries.jsonl", '{"_id": "q9", "text": " "}', "the query is empty"),
        ("queries.jsonl", '{"_id": "q9"}', "no text, query or title (found: _id)"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}', "query id 'q1' came before with another"),
        ("qrels/test.tsv", "q1\td9\t1", "document 'd9' is judged but not in the corpus"),
        ("qrels/test.tsv", "q9\td1\t1", "query 'q9' is judged but has no text"),
        ("qrels/test.tsv", "q1\td1\t0", "query 'heat' and document 'x' (d1) are graded 0 here and"),
        ("qrels/test.tsv", "q1\td3\tx", "label 'x' is not a number"),
        ("qrels/test.tsv", "q1\td3\t-2", "label '-2' is negative"),
        ("qrels/test.tsv", "q1\td3", "expected query, document, grade or query, 0, document, gra"),
        ("qrels/test.tsv", b"q1\td3\xff\t1", "not UTF-8 (byte 0xff at offset 29)"),
    ],
)
def test_a_bad_row_of_a_beir_folder(beir, file, row, reason):
    append(beir / file, row)
    line = len((beir / file).read_bytes().splitlines())
    assert message(beir).startswith(f"{beir / file}, line {line}: {reason}")
    data = load(beir, skip_bad=True)
    assert (len(data.documents), data.qrels, data.skipped_total) == (
        3, {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 2}}, 1
    )  # fmt: skip


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("topics.txt", "<top><num>1</num></top>", "topic 1 has neither <title> nor <query>"),
        ("topics.txt", "<top><title>x</top>", "the topic has no number (<num> or number=...)"),
        ("topics.txt", "<top><num>1<title> </top>", "topic 1 is empty"),
        ("topics.txt", "<top><num>1<title>x\n<top>", "not closed before <top> in line 4"),
        ("topics.txt", "<top><num>1<title>x\n", "not closed before the end of the file in line 3"),
        ("topics.txt", "</top>", "</top> was never opened"),
        ("topics.txt", b"<top><num>1<title>\xff</top>", "not UTF-8 (byte 0xff at offset 49)"),
        ("docs.txt", "<DOC>x</DOC>", "the document has no <DOCNO>"),
        ("docs.txt", "<DOC><DOCNO>d1</DOCNO>y</DOC>", "document id 'd1' came before"),
        ("docs.txt", "<DOC><DOCNO>d 2</DOCNO>y</DOC>", "DOCNO 'd 2' holds a space"),
    ],
)
def test_a_bad_row_of_a_trec_folder(tmp_path, file, text, reason):
    (tmp_path / "topics.txt").write_text("<top><num>q1\n<title>heat</top>\n")
    (tmp_path / "docs.txt").write_text("<DOC>\n<DOCNO>d1</DOCNO>x</DOC>\n")
    (tmp_path / "qrels.txt").write_text("q1 0 d1 1\n")
    assert load(tmp_path).qrels == {"q1": {"d1": 1}}
    append(tmp_path / file, text)
    assert message(tmp_path).startswith(f"{tmp_path / file}, line 3: {reason}")
    assert load(tmp_path, skip_bad=True).qrels == {"q1": {"d1": 1}}


def test_an_unclosed_quote_costs_only_its_own_row(tmp_path):
    path = tmp_path / "rows.csv"
    rows = [f"q{n},title {n},1\n" for n in range(50)]
    rows[10] = 'q10,"title 10,1\n'  # to the quote of row 30
    rows[30] = 'q30,"title, 30",1\n'
    rows[40] = 'q40,"title 40,1\n'  # to the end
    rows[45] = b"q45,title \xe9,1\n"
    path.write_text("query,title,label\n")
    for row in rows:
        append(path, row)
    data = load(path, skip_bad=True)
    assert sorted(query.text for query in data.queries.values()) == sorted(
        f"q{n}" for n in range(50) if n not in (10, 40, 45)
    )
    assert "title, 30" in {document.title for document in data.documents.values()}
    assert data.skipped_total == 3
    assert [line.split(": ")[0] for line in sorted(data.skipped)] == [
        f"{path}, line {n}" for n in (12, 42, 47)
    ]


def test_ten_bad_rows_are_reported_and_the_rest_counted(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(GOOD + "heat,x,-1\n" * 3 + "heat,y,z\n" * 38)
    assert message(path) == (
        f"{path}, lines 3, 4, 5: label '-1' is negative; grades start at 0; "
        "lines 6, 7, 8, 9, 10, 11, 12: label 'z' is not a number; and 31 more "
        "(--skip-bad leaves such rows out and lists them)"
    )
    append(path, "heat,y,z\n" * 2000)
    assert "; and at least 990 more (" in message(path)


def test_bad_rows_are_reported_file_by_file(beir):
    append(beir / "corpus.jsonl", "{\n")
    append(beir / "qrels" / "test.tsv", "q1\td9\t1\n")
    assert "d9" not in message(beir)  # the row of d9 may be the bad one


def test_skipped_rows_are_counted_listed_and_logged_by_kind(tmp_path, caplog):
    path = tmp_path / "rows.csv"
    path.write_text(GOOD + "heat,x,-1\n" * 30 + ",y,1\n" + "heat,z,0\n")
    with caplog.at_level(logging.WARNING):
        data = load(path, skip_bad=True)
    assert data.skipped_total == 31
    assert data.skipped[0] == f"{path}, line 3: label '-1' is negative; grades start at 0"
    assert data.skipped[20:] == ("and 11 more (31 in all)",)
    assert [record.getMessage() for record in caplog.records] == [
        f"bad rows left out (bad label): 30, the first: {data.skipped[0]}",
        f"bad rows left out (empty query): 1, the first: {path}, line 33: the query is empty",
    ]
    assert [list(grades.values()) for grades in data.qrels.values()] == [[1, 0]]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "", "{path} is empty"),
        ("a.jsonl", "\n", "{path} is empty"),
        ("a.csv", "query,title\nx,y\n", "{path}: no column label (found: query, title)"),
        ("a.csv", "query;title;label\n", "{path}: no column query, no column title or text, no co"),
        ("a.csv", "q\nry,x\n", "{path}: no column query"),
        ("a.csv", "query,title,label,label\n", "{path}: the header names label twice"),
        ("a.csv", b"query,title,label,\xff\n", "{path}: the header in line 1 cannot be read"),
        ("a.csv", "query,title,label\n", "a: the corpus is empty"),
        ("a.parquet", "PAR1", "{path} is not parquet ("),
        ("a.csv", b"\x1f\x8b\x08\0", "{path} is damaged: incomplete gzip data ("),
        (
            "a.csv",
            HALF_GZIP,
            "{path} is damaged: incomplete gzip data",
        ),
        ("a.xml", "<DOC></DOC>", "{path}: a file of TREC documents has no judgements; name the f"),
        (
            "a",
            "one line of prose",
            "cannot detect the format of {path}: looked for PAR1 (parquet), ",
        ),
        ("b", "", "cannot detect the format of {path}: looked for PAR1 (parquet), {{ (JSON lines)"),
    ],
)
def test_a_file_that_cannot_be_judged_data(tmp_path, name, text, reason):
    path = tmp_path / name
    append(path, text)
    assert message(path).startswith(reason.format(path=path))
    assert message(path, skip_bad=True).startswith(reason.format(path=path))


def test_nothing_left_after_skipping_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("query,title,label\nx,y,-1\n")
    assert message(tmp_path / "a.csv", skip_bad=True) == (
        "a: the corpus is empty (1 bad rows were left out)"
    )


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("corpus.jsonl", "{path} is empty"),
        ("queries.jsonl", "{path} is empty"),
        ("qrels/test.tsv", "no judgements in {path}"),
    ],
)
def test_empty_files_of_a_beir_folder(beir, file, reason):
    (beir / file).write_text("")
    assert message(beir) == reason.format(path=beir / file)


def test_the_error_for_a_folder_without_judged_data_says_what_was_expected(beir):
    (beir / "queries.jsonl").unlink()
    assert message(beir) == (
        f"no judged data in {beir}: a BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv) lacks "
        "queries.jsonl; a TREC folder (files named topics*, qrels*, docs*) lacks topics; "
        "it holds corpus.jsonl, qrels"
    )
    (beir / "docs.txt").write_text("")
    (beir / "documents").mkdir()
    assert "lacks one place for documents instead of docs.txt, documents, topics" in message(
        beir, format="trec"
    )
    assert "TREC" not in message(beir, format="beir")
    (beir / "empty").mkdir()
    assert message(beir / "empty").endswith("it is empty")


def test_missing_splits(beir):
    (beir / "qrels" / "dev.tsv").write_text("q1\td1\t1\n")
    assert message(beir, split="train") == f"{beir} has no split 'train'; it has dev, test"
    (beir / "a.csv").write_text(GOOD)
    assert message(beir / "a.csv", split="test") == (
        f"{beir / 'a.csv'} has no splits; leave the split 'test' out"
    )
    (beir / "qrels" / "dev.tsv.gz").write_bytes(b"")
    with pytest.raises(DataError, match="two files with judgements for dev: .*dev.tsv and .*gz"):
        split_names(beir)


def test_splits_that_contradict_each_other_cannot_be_merged(beir):
    (beir / "qrels" / "dev.tsv").write_text("q2\td3\t0\n")
    assert "(d3) are graded 2 here and 0 before" in message(beir)
    assert load(beir, split="dev").qrels == {"q2": {"d3": 0}}


def test_formats_that_do_not_fit(beir):
    (beir / "a.csv").write_text(GOOD)
    assert message(beir, format="csv") == f"{beir} is a folder; format csv is a file"
    path = beir / "a.csv"
    assert message(path, format="beir") == f"{path} is a file; format beir is a folder"
    with pytest.raises(UsageError, match="format 'xml' is unknown; expected one of beir, csv, ir_"):
        load(beir, format="xml")


def test_missing_paths(tmp_path):
    assert message(tmp_path / "nope.csv") == f"{tmp_path}/nope.csv: no such file or folder"
    assert message("nope.csv") == "nope.csv: no such file or folder"
    assert message("-") == ("judged data cannot be read from standard input; name a file or folder")


def test_unjudged_queries_are_reported_and_left_out(beir, caplog):
    append(beir / "queries.jsonl", '{"_id": "q3", "text": "drag"}\n')
    with caplog.at_level(logging.INFO):
        data = load(beir)
    assert set(data.queries) == set(data.qrels) == {"q1", "q2"}
    assert caplog.messages == [f"{beir.name}: 1 queries do not occur in the judgements"]
