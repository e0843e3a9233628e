"""Synthetic queries: read, filtered by the rank of their source document, and learned from."""

import json
from pathlib import Path

import pytest
from small_data import small_dataset, write_csv

from ranker.artifacts.bundle import Checkpoint
from ranker.dataset import Dataset, load
from ranker.dataset.synthetic import SyntheticQueries, load_synthetic
from ranker.errors import DataError, UsageError
from ranker.lexical.bm25 import BM25Index, FirstPhase
from ranker.model.provenance import DataProvenance
from ranker.records import Document
from ranker.report.facts import training_view
from ranker.train import TrainArguments, reproduce, train

SMALL = {"batch_size": 2, "negatives": 3, "epochs": 1, "held_out": 0.3, "precision": "fp32"}
DOCUMENTS = {
    doc_id: Document(doc_id, "", text)
    for doc_id, text in {
        "d1": "red fox runs", "d2": "red fox", "d3": "blue house", "d4": "slow dog",
    }.items()
}  # fmt: skip
INDEX = FirstPhase(BM25Index(DOCUMENTS.values()))


def loaded(path: Path, text: str, rank: int = 1) -> SyntheticQueries:
    path.write_text(text)
    return load_synthetic(path, DOCUMENTS, INDEX, rank=rank)


def pairs(found: SyntheticQueries) -> dict[str, set[str]]:
    judged = found.judged
    return {judged.queries[id_].text: set(row) for id_, row in judged.qrels.items()}


ROWS = [("fox runs", "d1"), ("a blue house", "d3")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.csv", "query,doc_id\n" + "".join(f"{q},{d}\n" for q, d in ROWS)),
        ("q.csv", "doc_id,query\n" + "".join(f"{d},{q}\n" for q, d in ROWS)),
        ("q.tsv", "query\tdoc_id\n" + "".join(f"{q}\t{d}\n" for q, d in ROWS)),
        ("q.tsv", "".join(f"{q}\t{d}\n" for q, d in ROWS)),
        ("q.tsv", "".join(f"{d}\t{q}\n" for q, d in ROWS)),
        ("q.tsv", "".join(f"{d}\tquery: {q}\n" for q, d in ROWS)),
        ("q.jsonl", "".join(json.dumps({"query": q, "doc_id": d}) + "\n" for q, d in ROWS)),
    ],
)
def test_every_format_is_read_alike(name: str, text: str, tmp_path: Path) -> None:
    found = loaded(tmp_path / name, text)
    assert pairs(found) == {"fox runs": {"d1"}, "a blue house": {"d3"}}
    assert (found.rows, found.kept, sum(found.dropped.values())) == (2, 2, 0)


def test_a_query_is_kept_if_it_finds_its_source_document(tmp_path: Path) -> None:
    """`red fox` finds d2 (the shorter) before d1, and neither d3 nor d9."""
    text = "query,doc_id\n" + "".join(f"red fox,d{n}\n" for n in (1, 2, 3, 9, 9)) + "dog,d4\n"
    first, second = (loaded(tmp_path / "q.csv", text, rank) for rank in (1, 2))
    assert pairs(first) == {"red fox": {"d2"}, "dog": {"d4"}}
    assert first.dropped == {"repeated": 1, "unknown_document": 1, "judged": 0, "rank": 2}
    assert pairs(second) == {"red fox": {"d1", "d2"}, "dog": {"d4"}}
    assert second.dropped == {"repeated": 1, "unknown_document": 1, "judged": 0, "rank": 1}
    assert first.rows == 6 == first.kept + sum(first.dropped.values())


def test_a_near_duplicate_of_a_judged_query_is_dropped(tmp_path: Path) -> None:
    """It would be learned before the folds, whose queries are measured as never seen."""
    path = tmp_path / "q.csv"
    path.write_text("query,doc_id\nred fox,d2\nslow dog,d4\nThe Fox (red)!,d2\n")
    judged = ["a b c d slow dogs", "the fox, red"]
    found = load_synthetic(path, DOCUMENTS, INDEX, rank=2, judged=judged)
    assert pairs(found) == {"red fox": {"d2"}, "slow dog": {"d4"}}
    assert found.dropped == {"repeated": 0, "unknown_document": 0, "judged": 1, "rank": 0}
    more = load_synthetic(path, DOCUMENTS, INDEX, rank=2, judged=[*judged, "Foxes: red"])
    assert pairs(more) == {"slow dog": {"d4"}} and more.dropped["judged"] == 2


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("q.csv", "query,doc_id\nred,d1\n,d2\n", r"q\.csv, line 3: the query is empty"),
        ("q.csv", "query,doc_id\nred,a b\n", "line 2: doc_id 'a b' holds a space"),
        ("q.csv", "query,doc_id\nred\n", "line 2: expected 2 columns, got 1"),
        ("q.csv", "question,doc_id\nred,d1\n", "no column query .found: question, doc_id"),
        ("q.jsonl", '{"query": "red"}\n', "line 1: no doc_id .found: query"),
        ("q.tsv", "query: \td1\nred fox\td1\n", "line 1: the query is empty"),
        ("q.csv", "query,doc_id\n", "no queries in"),
        ("q.csv", "query,doc_id\nred,d9\nblue,d1\n", r"none of its 2 .* 1 unknown_doc.*, 1 rank"),
        ("q.xml", "<top></top>", "expected CSV, TSV, JSON lines or parquet"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        loaded(tmp_path / name, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.csv: No such file"):
        load_synthetic(tmp_path / "none.csv", DOCUMENTS, INDEX, rank=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data"))


def write_synthetic(path: Path, data: Dataset) -> Path:
    """Titles as queries of their documents, and one row of a missing document."""
    rows = [f"{document.title},{doc_id}\n" for doc_id, document in data.documents.items()]
    path.write_text("query,doc_id\n" + "".join([*rows[:30], "red,nowhere\n"]))
    return path


@pytest.fixture(scope="module")
def trained(data: Dataset, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Three stages, cross-validated."""
    folder = tmp_path_factory.mktemp("trained")
    csv = write_csv(folder / "judged.csv")
    arguments = TrainArguments(
        base=str(tiny_bert), pretrain=True, pretrain_steps=2, synthetic_steps=4, cv=2,
        synthetic=str(write_synthetic(folder / "written.csv", data)), **SMALL,
    )  # fmt: skip
    return train(load(csv), folder / "out", arguments=arguments, source=DataProvenance.of(str(csv)))


def test_the_stage_comes_after_pretraining_and_before_the_judged_one(trained: Checkpoint) -> None:
    history = trained.training["history"]
    stages = list(dict.fromkeys(row["stage"] for row in history))
    assert stages[:2] == ["pretrain", "synthetic"] and set(stages[2:]) <= {"judged"}
    assert sum(row["stage"] == "synthetic" for row in history) == 4
    assert trained.training["documents_by_source"]["synthetic"]["positive"] == 8


def test_the_report_says_what_was_kept_and_what_it_did(trained: Checkpoint) -> None:
    report = trained.training
    found = report["synthetic"]
    assert found["rows"] == 31 == found["kept"] + sum(found["dropped"].values())
    assert found["dropped"]["unknown_document"] == 1 and found["kept"] > 20
    effects = [(row["baseline"], row["profile"]) for row in report["gate"]["effects"]]
    assert effects == [
        ("base", "pretrained"),
        ("pretrained", "synthetic"),
        ("synthetic", "judged"),
    ]
    card = (trained.path / "README.md").read_text()
    assert f"of 31 rows {found['kept']} were kept" in card
    assert "1 of documents that are not in the corpus" in card
    assert "| after learning from synthetic queries |" in card
    assert str(trained.path.parent) not in card
    facts = dict(training_view(trained.path, report, ident="t")["facts"])
    said = facts["Synthetic queries"]
    assert said.startswith(f"written.csv: {found['kept']} of 31 rows kept, ")
    assert "rows kept, source document in the best 20 of" in said
    assert "1 unknown document" in said


def test_without_judged_epochs_the_stage_alone_changes_the_model(
    data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    """And each query is learned from at most once, regardless of the number of steps."""
    path = write_synthetic(tmp_path / "written.csv", data)
    arguments = TrainArguments(
        base=str(tiny_bert), synthetic=str(path), **{**SMALL, "epochs": 0}
    )  # fmt: skip
    report = train(data, tmp_path / "out", arguments=arguments).training
    kept = report["synthetic"]["kept"]
    assert report["documents_by_source"]["synthetic"]["positive"] == kept
    assert [row["stage"] for row in report["history"]] == ["synthetic"] * ((kept + 1) // 2)


def test_it_is_repeated_only_with_the_same_file(trained: Checkpoint, tmp_path: Path) -> None:
    report = json.loads((trained.path / "training.json").read_text())
    (tmp_path / "other.csv").write_text("query,doc_id\nred,d1\n")
    report["arguments"]["synthetic"] = str(tmp_path / "other.csv")
    (tmp_path / "training.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match=r"other\.csv is not what the training read"):
        reproduce(tmp_path / "training.json", tmp_path / "out")


def test_a_bad_file_leaves_nothing_behind(data: Dataset, tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "written.csv").write_text("query,doc_id\n,d1\n")
    arguments = TrainArguments(
        base=str(tiny_bert), synthetic=str(tmp_path / "written.csv"), pretrain=True, **SMALL
    )
    with pytest.raises(DataError, match="line 2: the query is empty"):
        train(data, tmp_path / "out", arguments=arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["written.csv"]


def test_impossible_sizes() -> None:
    with pytest.raises(UsageError, match="synthetic_rank must be at least 1.*synthetic_steps"):
        TrainArguments(synthetic_rank=0, synthetic_steps=0)
