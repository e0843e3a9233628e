"""A corpus as a stream: every form, standard input, constant memory, bad rows."""

import io
import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import tracemalloc

import pandas
import pytest

from ranker.dataset import load, read_corpus
from ranker.errors import DataError, UsageError
from ranker.records import Document

WINGS = Document("d1", "Wings", "lift and drag")
PLATES = Document("d2", "", "heat")


@pytest.fixture
def stdin(monkeypatch):
    def feed(text: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    return feed


@pytest.mark.parametrize("id_key", ["_id", "id", "doc_id", "docno"])
@pytest.mark.parametrize("text_key", ["text", "body", "contents", "abstract"])
def test_the_usual_names_of_id_and_text(tmp_path, id_key, text_key):
    frame = pandas.DataFrame(
        {id_key: ["d1", "d2"], "title": ["Wings", ""], text_key: ["lift and drag", "heat"],
         "other": [1, 2]}
    )  # fmt: skip
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    for suffix in ("csv", "tsv", "parquet", "jsonl"):
        assert list(read_corpus(tmp_path / f"a.{suffix}")) == [WINGS, PLATES]


def test_title_alone_text_alone_and_number_ids(tmp_path):
    (tmp_path / "a.csv").write_text("id,title\n7,Wings\n")
    pandas.DataFrame({"id": [7], "text": ["lift"]}).to_parquet(tmp_path / "a.parquet")
    assert list(read_corpus(tmp_path / "a.csv")) == [Document("7", "Wings", "")]
    assert list(read_corpus(tmp_path / "a.parquet")) == [Document("7", "", "lift")]


def test_a_tsv_without_header_and_a_trec_file(tmp_path):
    (tmp_path / "a.tsv").write_text("d1\tWings\tlift and drag\nd2\t\theat\n")
    (tmp_path / "b.tsv").write_text("d2\theat\n")
    (tmp_path / "c").write_text("<DOC><DOCNO>d2</DOCNO><TEXT>heat</TEXT></DOC>")
    assert list(read_corpus(tmp_path / "a.tsv")) == [WINGS, PLATES]
    assert list(read_corpus(tmp_path / "b.tsv")) == list(read_corpus(tmp_path / "c")) == [PLATES]


def test_judged_rows_yield_each_document_once(tmp_path):
    (tmp_path / "a.csv").write_text(
        "query,title,label\nheat,Plates,1\nlift,Plates,0\nlift,Wings,1\nheat,Wings,0\n"
    )
    documents = list(read_corpus(tmp_path / "a.csv"))
    assert [document.title for document in documents] == ["Plates", "Wings"]
    assert {document.doc_id: document for document in documents} == load(
        tmp_path / "a.csv"
    ).documents
    (tmp_path / "a.csv").write_text("query,title,label,doc_id\nx,a,1,d\ny,a,1,d\ny,b,1,d\n")
    with pytest.raises(DataError, match="line 4: document id 'd' came before with another title"):
        list(read_corpus(tmp_path / "a.csv"))


def test_a_folder_needs_no_judgements(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d2", "text": "heat"}\n')
    assert list(read_corpus(tmp_path)) == [PLATES]
    with pytest.raises(DataError, match=r"lacks queries.jsonl, qrels/\*.tsv"):
        load(tmp_path)
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"no corpus in .* lacks corpus.jsonl; .* lacks documents"):
        read_corpus(tmp_path)


def test_standard_input(stdin):
    stdin(b'{"id": "d2", "text": "heat"}\n\n{"docno": "d1", "title": "Wings", "body": "lift"}\n')
    assert [document.doc_id for document in read_corpus("-")] == ["d2", "d1"]
    stdin(b"id,text\nd2,heat\n")
    assert list(read_corpus("-", format="csv")) == [PLATES]
    stdin(b'{"id": "d2", "text": "heat"}\n{"id": "d3"')
    with pytest.raises(DataError, match="^<stdin>, line 2: not JSON"):
        list(read_corpus("-"))
    stdin(b"")
    with pytest.raises(DataError, match="^<stdin> is empty"):
        list(read_corpus("-"))
    with pytest.raises(DataError, match="parquet cannot be read from standard input"):
        list(read_corpus("-", format="parquet"))


def test_standard_input_of_a_real_process_is_read_as_it_comes():
    program = (
        "import sys; from ranker.dataset import read_corpus\n"
        "for document in read_corpus('-'): print(document.doc_id, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        killer = threading.Timer(30, process.kill)
        killer.start()
        for name in ("one", "two"):
            process.stdin.write(json.dumps({"_id": name, "text": "x"}).encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == name.encode()
        process.stdin.close()
        assert process.wait() == 0
        killer.cancel()


def test_documents_before_a_bad_row_are_yielded_and_then_all_bad_rows_reported(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "d2", "text": "heat"}\n{}\n{"id": "d1", "text": "x"}\n[]\n')
    stream = read_corpus(path)
    assert next(stream) == PLATES
    with pytest.raises(DataError, match=r"line 2: no _id, .* \(found: none\); line 4: expected"):
        next(stream)


def test_skipping_leaves_bad_rows_out_and_logs_them(tmp_path, caplog):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\nd2,heat\nd3,\xff\nd4\nd1,x\n")
    with caplog.at_level(logging.WARNING):
        assert [d.doc_id for d in read_corpus(path, skip_bad=True)] == ["d2", "d1"]
    messages = [message.split(", the")[0].split(", for")[0] for message in caplog.messages]
    assert messages == [
        "bad rows left out (not UTF-8): 1",
        "bad rows left out (wrong number of columns): 1",
        f"left out: {path}, line 3: not UTF-8 (byte 0xff at offset 19); convert the file",
        f"left out: {path}, line 4: expected 2 columns, got 1",
    ]
    path.write_text("id,text\n,x\n")
    with pytest.raises(DataError, match=r"a: the corpus is empty \(1 bad rows\)"):
        list(read_corpus(path, skip_bad=True))


def test_a_damaged_line_inside_quotes_costs_its_row_only(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\nd1,"one\n\xff\ntwo"\nd2,heat\n')
    assert list(read_corpus(path, skip_bad=True)) == [PLATES]


def test_misuse_is_reported_at_the_call_not_at_the_first_document(tmp_path):
    with pytest.raises(UsageError, match="format 'xml' is unknown"):
        read_corpus(tmp_path, format="xml")
    with pytest.raises(DataError, match="no such file or folder"):
        read_corpus(tmp_path / "nope.jsonl")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "trec"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, suffix):
    text = "word " * 100
    with (tmp_path / f"a.{suffix}").open("w") as file:
        file.write({"csv": "id,text\n", "tsv": "id\ttext\n"}.get(suffix, ""))
        for n in range(4000):
            row = {
                "jsonl": json.dumps({"id": str(n), "text": text}),
                "csv": f"{n},{text}",
                "tsv": f"{n}\t{text}",
                "trec": f"<DOC><DOCNO>{n}</DOCNO>{text}</DOC>",
            }[suffix]
            file.write(row + "\n")
    stream = read_corpus(tmp_path / f"a.{suffix}")
    next(stream)
    tracemalloc.start()
    try:
        assert sum(1 for _ in itertools.islice(stream, 3998)) == 3998
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000 < os.path.getsize(tmp_path / f"a.{suffix}") / 5
