"""The `ir_datasets` catalogue: with the real library where it is installed, and without it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from ranker.dataset import load, read_corpus
from ranker.dataset.formats.irds import looks_like_id
from ranker.errors import DataError, MissingExtra


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """ir_datasets with a dataset of our own under toy/one, and one of documents alone."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    library = pytest.importorskip("ir_datasets")
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.formats import TrecQrels, TsvDocs, TsvQueries
    from ir_datasets.util import LocalDownload

    (tmp_path / "docs").write_text("d1\tlift\nd2\theat\n")
    (tmp_path / "queries").write_text("q1\twing\n")
    (tmp_path / "qrels").write_text("q1 0 d1 2\nq1 0 d2 0\n")
    docs = TsvDocs(LocalDownload(tmp_path / "docs"))
    queries = TsvQueries(LocalDownload(tmp_path / "queries"))
    qrels = TrecQrels(LocalDownload(tmp_path / "qrels"), {})
    known = {"toy/one": Dataset(docs, queries, qrels), "toy/docs": Dataset(docs)}
    real = library.load
    monkeypatch.setattr(library, "load", lambda name: known[name] if name in known else real(name))
    return SimpleNamespace(qrels=tmp_path / "qrels")


def test_a_dataset_of_the_catalogue(catalogue):
    data = load("toy/one")
    assert data.name == "toy/one"
    assert [document.text for document in data.documents.values()] == ["lift", "heat"]
    assert data.queries["q1"].text == "wing"
    assert data.qrels == {"q1": {"d1": 2, "d2": 0}}
    assert load("ir_datasets:toy/one") == load("toy/one", format="ir_datasets") == data
    assert list(read_corpus("ir_datasets:toy/docs")) == list(data.documents.values())


def test_what_the_catalogue_lacks(catalogue):
    with pytest.raises(DataError, match="ir_datasets has no dataset toy/two"):
        load("ir_datasets:toy/two")
    with pytest.raises(DataError, match="toy/two: no such file or folder, and no dataset of ir_d"):
        load("toy/two")
    with pytest.raises(DataError, match="ir_datasets:toy/docs has no queries"):
        load("toy/docs")


def test_bad_rows_of_the_catalogue(catalogue):
    catalogue.qrels.write_text("q1 0 d1 2\nq1 0 d2 -1\n")
    with pytest.raises(DataError, match="ir_datasets:toy/one qrels, row 2: label -1 is negative"):
        load("toy/one")
    assert load("toy/one", skip_bad=True).qrels == {"q1": {"d1": 2}}


def test_without_the_library_the_extra_is_named():
    program = (
        "import sys; sys.modules['ir_datasets'] = None\n"
        "from ranker.dataset import load\n"
        "try: load(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )

    def says(name: str) -> str:
        command = [sys.executable, "-c", program, name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    advice = "ir_datasets is not installed; it comes with: pip install 'ranker[datasets]'"
    assert says("ir_datasets:vaswani") == f"{MissingExtra.__name__} {advice}"
    assert says("beir/scifact/test") == (
        f"DataError beir/scifact/test: no such file or folder (if it is an id of ir_datasets: "
        f"{advice})"
    )
    assert says("../no-data") == "DataError ../no-data: no such file or folder"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("beir/scifact/test", True),
        ("msmarco-passage/trec-dl-2019/judged", True),
        ("vaswani", False),
        ("./data/x", False),
        ("/data/x", False),
        ("a//b", False),
    ],
)
def test_names_that_may_be_ids(name, answer):
    assert looks_like_id(name) is answer
