"""Cross-validation: honest, resumable, repeatable, and what it leaves as evidence."""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import huggingface_hub
import ir_measures
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import WORDS, write_csv

from ranker.artifacts.bundle import Bundle, Checkpoint
from ranker.cli import main
from ranker.contract.encode import Encoder
from ranker.dataset import Dataset, load
from ranker.dataset.folds import fold_of_queries
from ranker.errors import ArtifactError, DataError, UsageError
from ranker.export.to_onnx import export
from ranker.lexical.near_duplicates import query_families
from ranker.metrics.calibration import calibrate
from ranker.model.base import load_weights, open_base
from ranker.model.provenance import DataProvenance
from ranker.records import Document, Query
from ranker.train import TrainArguments, reproduce, train
from ranker.train.folds.workers import affordable
from ranker.train.stages import Stages

pytestmark = pytest.mark.slow

OPTIONS = {
    "batch_size": 2, "negatives": 3, "epochs": 2, "held_out": 0.3, "precision": "fp32", "cv": 3,
    "pretrain": True, "pretrain_steps": 3, "learning_rate": 1e-2,
}  # fmt: skip
RUNS = ("bm25", "base", "pretrained", "judged", "cross", "blend")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, whoever trains: here, in a child, in the processes of the folds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "judged.csv")


@pytest.fixture(scope="module")
def validated(csv: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What the command line makes of twelve queries in three folds."""
    out = tmp_path_factory.mktemp("validated") / "checkpoint"
    options = [
        word
        for name, value in OPTIONS.items()
        for word in ([f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)]))
    ]
    command = ["train", str(csv), "--base", str(tiny_bert), "--license", "cc-by-4.0", *options]
    assert main([*command, "--out", str(out)]) == 0
    return Checkpoint.open(out)


def arguments(tiny_bert: Path) -> TrainArguments:
    return TrainArguments(base=str(tiny_bert), **OPTIONS)


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_weights(checkpoint.path).state_dict()


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def run_of(checkpoint: Checkpoint, name: str) -> dict[str, dict[str, float]]:
    """A run file as ir_measures reads it."""
    found: dict[str, dict[str, float]] = {}
    for row in ir_measures.read_trec_run(str(checkpoint.path / f"cv/{name}.run")):
        found.setdefault(row.query_id, {})[row.doc_id] = row.score
    return found


def folds_of(checkpoint: Checkpoint) -> dict[str, int]:
    return json.loads((checkpoint.path / "cv/folds.json").read_text())


def questions(texts: list[str]) -> Dataset:
    ids = [f"q{n}" for n in range(len(texts))]
    return Dataset(
        name="made up",
        documents={"d": Document("d", "", "text")},
        queries={id_: Query(id_, text) for id_, text in zip(ids, texts, strict=True)},
        qrels={id_: {"d": 1} for id_ in ids},
        split=None,
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), min_size=8, max_size=30),
    st.integers(2, 4),
    st.integers(0, 5),
)
def test_folds_are_about_equal_and_keep_families_together(
    texts: list[list[str]], folds: int, seed: int
) -> None:
    data = questions([" ".join(words) for words in texts])
    groups = query_families({id_: query.text for id_, query in data.queries.items()})
    if len(groups) < max(folds, 3):
        with pytest.raises(DataError, match="different questions"):
            fold_of_queries(data, folds=folds, seed=seed)
        return
    try:
        found = fold_of_queries(data, folds=folds, seed=seed)
    except DataError as error:
        assert "no second question to learn from" in str(error) and folds == 2
        return
    assert found.keys() == data.qrels.keys() and set(found.values()) == set(range(folds))
    for fold in range(folds):
        assert sum(found[group[0]] != fold for group in groups) >= 2
    assert all(len({found[id_] for id_ in group}) == 1 for group in groups)
    sizes = [list(found.values()).count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= max(map(len, groups))
    turned = replace(data, qrels=dict(reversed(data.qrels.items())))
    assert fold_of_queries(turned, folds=folds, seed=seed) == found


def test_a_question_that_fills_a_fold_alone_needs_more_folds() -> None:
    data = questions(["red fox"] * 4 + ["blue dog", "green cat", "slow river"])
    with pytest.raises(DataError, match="4 of 7 judged queries are one question.*more folds"):
        fold_of_queries(data, folds=2)
    assert set(fold_of_queries(data, folds=3).values()) == {0, 1, 2}


def test_another_seed_deals_other_folds() -> None:
    data = questions([f"{a} {b}" for a, b in zip(WORDS, WORDS[7:], strict=False)])
    first, again, other = (fold_of_queries(data, folds=5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_every_query_has_an_honest_result(validated: Checkpoint, csv: Path) -> None:
    """The figures of the report, from the run files alone."""
    data, report = load(csv), validated.training
    numbers = folds_of(validated)
    assert numbers.keys() == data.qrels.keys() and set(numbers.values()) == {1, 2, 3}
    assert [list(numbers.values()).count(n) for n in (1, 2, 3)] == [4, 4, 4]
    runs = {name: run_of(validated, name) for name in RUNS}
    for name, run in runs.items():
        value = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], data.qrels, run)
        mean = report["gate"]["runs"][name]["mean"]
        assert value[ir_measures.nDCG @ 10] == pytest.approx(mean, abs=1e-9)
        assert run.keys() == data.qrels.keys()
    weight = {row["fold"]: row["blend_weight"] for row in report["cv"]["by_fold"]}
    for query_id, row in runs["blend"].items():
        for doc_id, score in row.items():
            parts = [runs[name][query_id][doc_id] for name in ("bm25", "cross")]
            blend = parts[0] + weight[numbers[query_id]] * parts[1]
            assert score == pytest.approx(blend, abs=1e-5)  # equal ones are lowered in the files
    again = calibrate(data.qrels, runs["cross"], numbers, min_grade=1)
    assert report["calibration"] is None and report["uncalibrated"] == again["uncalibrated"]
    by_fold = [row["ndcg@10"]["cross"] for row in report["cv"]["by_fold"]]
    assert statistics.fmean(by_fold) == pytest.approx(report["gate"]["runs"]["cross"]["mean"])


def test_a_folds_own_judgements_do_not_matter(
    validated: Checkpoint, csv: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """With the grades of fold 1 turned round its queries are ranked the same, others are not."""
    numbers, data = folds_of(validated), load(csv)
    asked = {data.queries[id_].text for id_, fold in numbers.items() if fold == 1}
    header, *lines = csv.read_text().splitlines(keepends=True)
    swap = str.maketrans("01", "10")
    lines = [line.translate(swap) if line.split(",")[0] in asked else line for line in lines]
    turned = tmp_path / "turned.csv"
    turned.write_text("".join([header, *lines]))
    other = train(load(turned), tmp_path / "other", arguments=arguments(tiny_bert))
    assert folds_of(other) == numbers
    for name in ("bm25", "base", "pretrained", "judged"):  # which of them ships, all queries say
        before, after = run_of(validated, name), run_of(other, name)
        changed = {numbers[id_] for id_ in before if before[id_] != after[id_]}
        assert changed == {2, 3} if name == "judged" else not changed, name
    weights = [
        row["cv"]["by_fold"][0]["blend_weight"] for row in (validated.training, other.training)
    ]
    assert weights[0] == weights[1]


def test_the_final_model_takes_the_steps_that_the_folds_chose(validated: Checkpoint) -> None:
    report = validated.training
    cv, (pretrain, judged) = report["cv"], report["stages"]
    assert cv["steps"] == sorted(row["best_step"] for row in cv["by_fold"])[1] > 0
    assert (pretrain["stage"], pretrain["steps"]) == ("pretrain", 3)
    assert (judged["stage"], judged["steps"], judged["best_step"]) == (
        "judged", cv["steps"], cv["steps"],
    )  # fmt: skip
    losses = [row["step"] for row in report["history"] if row["stage"] == "judged"]
    assert losses == list(range(1, cv["steps"] + 1))
    for row in cv["by_fold"]:
        assert row["learned_from"] + row["held_out"] + row["queries"] == 12
        best = max(row["evaluations"], key=lambda evaluation: evaluation["ndcg@10"])
        assert row["best_step"] == best["step"] and row["documents_by_source"]["positive"]
    assert report["held_out"]["queries"] == 12 and report["held_out_query_ids"] == []
    assert report["recommended_profile"] == report["gate"]["recommended_profile"]


KEEPING_BYTECODE = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
"""Compiling torch and transformers again takes a process fifteen seconds."""

CHILD = """
import json, sys
from pathlib import Path
from ranker.dataset import load
from ranker.train import TrainArguments, train
from ranker.train import loop
import torch
loop.SAVE_SECONDS = 0.0
torch.set_num_threads(1)
data, out, arguments = load(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
tell = lambda stage, step, *_: print(stage, step, flush=True)
train(data, out, arguments=TrainArguments(**arguments), on_progress=tell)
"""


def test_a_run_that_was_killed_in_a_fold_resumes_in_two_processes(
    validated: Checkpoint, csv: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    out = tmp_path / "checkpoint"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, csv, out, json.dumps(arguments(tiny_bert).to_dict())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=KEEPING_BYTECODE,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("fold 2/3 5"):
            child.kill()
            break
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL and not out.exists()
    seen: list[tuple[str, int]] = []
    again = train(
        load(csv),
        out,
        arguments=arguments(tiny_bert),
        fold_workers=2,
        on_progress=lambda stage, step, *_: seen.append((stage, step)),
    )
    trained = {stage for stage, _ in seen if ":" not in stage}
    assert trained == {"fold 2/3", "fold 3/3", "judged"}
    assert {"fold 2/3: blend", "fold 3/3: scores"} <= {stage for stage, _ in seen}
    assert ("fold 2/3", 1) not in seen and ("fold 3/3", 1) in seen  # it resumed where it was
    for name in RUNS:
        expected, got = run_of(validated, name), run_of(again, name)
        for query_id, row in expected.items():
            assert got[query_id] == pytest.approx(row, abs=1e-9), name
    assert again.training["cv"]["steps"] == validated.training["cv"]["steps"]
    assert equal(again, validated)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


PARENT = """
import multiprocessing, time
from ranker.train.folds.workers import _live_as_long_as_the_parent

def work(pipe):
    _live_as_long_as_the_parent()
    pipe.send("here")
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,), daemon=True)
    process.start()
    ours.recv()
    print(process.pid, flush=True)
    time.sleep(600)
"""


def test_the_processes_of_the_folds_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Otherwise they would keep writing where the next run begins."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.kill()
    for _ in range(600):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


@pytest.mark.parametrize(("groups", "fitting"), [(2, 2), (10**9, 1)])
def test_no_more_processes_than_memory_holds(
    groups: int,
    fitting: int,
    csv: Path,
    tiny_bert: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = open_base(str(tiny_bert))
    encoder = Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)
    chosen = TrainArguments(base=str(tiny_bert), batch_size=groups)
    stages = Stages(base, load(csv), encoder, chosen, lambda *_: None, directory=tmp_path)
    with (
        contextlib.closing(stages),
        caplog.at_level(logging.WARNING, logger="ranker.train.folds.workers"),
    ):
        assert affordable(stages, 2) == fitting
    assert bool(re.search(r"2 folds at once would need .* GB .* 1 at a time", caplog.text)) == (
        fitting == 1
    )


def test_too_few_questions_are_an_error_before_anything_is_written(
    tiny_bert: Path, tmp_path: Path
) -> None:
    data = load(write_csv(tmp_path / "few.csv", queries=4))
    with pytest.raises(DataError, match="5 folds need at least 5 different questions, got 4"):
        train(data, tmp_path / "out", arguments=TrainArguments(base=str(tiny_bert), cv=5))
    assert [path.name for path in tmp_path.iterdir()] == ["few.csv"]
    with pytest.raises(UsageError, match="cv must be 0 or at least 2, got 1"):
        TrainArguments(cv=1)


def test_the_model_card_renders_and_tells_the_truth(validated: Checkpoint, csv: Path) -> None:
    text = (validated.path / Checkpoint.CARD).read_text()
    data = huggingface_hub.ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "unknown", "transformers", "text-ranking",
    )  # fmt: skip
    assert data.base_model is None and "cross-encoder" in data.tags  # a folder is on no hub
    report = validated.training
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found["nDCG@10 (cross)"] == round(report["held_out"]["cross"], 4)
    for link in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert ElementTree.parse(validated.path / link).getroot().tag.endswith("}svg")
    assert len(re.findall(r"!\[", text)) == 2
    assert f"| `judged.csv` | `{DataProvenance.of(str(csv)).files['judged.csv']}` |" in text
    assert "- Data: cc-by-4.0\n" in text + "\n" and "- Base model: unknown (not stated" in text
    assert f"| torch | {torch.__version__.split('+')[0]}" in text
    assert "| fold - " not in text and text.count("\n| 1 | 4 | ") == 1
    assert str(csv.parent) not in text  # no path of this machine
    assert all(f"| `{name}` | " in text for name in report["arguments"])
    assert report["calibration"] is None and "needs at least 50" in report["uncalibrated"]
    assert f"**Uncalibrated**: {report['uncalibrated']}." in text


def test_the_card_is_the_users_to_edit_and_nothing_else_is(
    validated: Checkpoint, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(validated.path, tmp_path / "copy"))
    (copy / Checkpoint.CARD).write_text("my own words")
    Checkpoint.open(copy)
    (copy / "cv/cross.run").write_text("made up")
    with pytest.raises(ArtifactError, match=r"cross\.run was changed"):
        Checkpoint.open(copy)


def test_a_forced_bundle_says_so(validated: Checkpoint, tmp_path: Path) -> None:
    assert validated.training["gate"]["verdict"] == "not_better"
    bundle = export(validated, tmp_path / "bundle", force=True)
    card = (bundle.path / Bundle.CARD).read_text()
    assert bundle.forced and "with `--force`" in card and "![" not in card
    assert "training.json" not in card  # it is not there
    assert "base_model" not in card  # a folder's name is not the hub's
    assert "with `--force`" not in (validated.path / Checkpoint.CARD).read_text()


def test_a_training_is_reproduced_from_its_report(
    validated: Checkpoint, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    report = str(validated.path / "training.json")
    again = tmp_path / "again"
    assert main(["train", "--reproduce", report, "--out", str(again), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gate"] == validated.training["gate"]
    repeated = Checkpoint.open(again)
    assert equal(repeated, validated)
    for name in RUNS:
        assert (again / f"cv/{name}.run").read_text() == (
            validated.path / f"cv/{name}.run"
        ).read_text()
    assert repeated.training["source"] == validated.training["source"]


def test_a_training_is_reproduced_from_another_folder(
    tiny_bert: Path, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report names a base by its whole path."""
    shutil.copytree(tiny_bert, tmp_path / "bert")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    command = ["train", str(csv), "--base", "bert", "--epochs", "0", "--out", "first", "--no-lint"]
    assert main(command) == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", "--reproduce", "../first/training.json", "--out", "again"]) == 0
    first, again = (Checkpoint.open(tmp_path / name) for name in ("first", "elsewhere/again"))
    assert equal(first, again)


def test_a_repetition_refuses_other_data_and_names_it(
    validated: Checkpoint, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    moved = Path(shutil.copy(csv, tmp_path / "judged.csv"))
    with moved.open("a") as file:
        file.write("red fox,red fox,It is a text.,1\n")
    command = [
        "train",
        str(moved),
        "--reproduce",
        str(validated.path),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert f"{moved} is not what the training read: sha256" in error
    assert main([*command, "--epochs", "4", "--cv", "2"]) == 2
    assert "leave out --epochs, --cv" in capsys.readouterr().err
    config = tmp_path / "options.toml"
    config.write_text("[train]\nepochs = 4\n")
    assert main(["--config", str(config), *command]) == 2
    assert "leave out --epochs" in capsys.readouterr().err
    config.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["judged.csv"]


def test_what_cannot_be_reproduced(validated: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name another folder"):
        reproduce(validated.path / "training.json", validated.path)
    report = dict(validated.training)
    path = tmp_path / "training.json"
    for change, words in [
        ({"source": None}, "does not say where its data came from"),
        ({"arguments": {"lr": 1}}, "not those of this version"),
        ({"data": {**report["data"], "sha256": "0" * 64}}, "sha256 of its content"),
        ({"base": {"files": {"model.safetensors": "0" * 64}}}, "model.safetensors of the base"),
    ]:
        path.write_text(json.dumps({**report, **change}))
        with pytest.raises((ArtifactError, DataError), match=words):
            reproduce(path, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["training.json"]


def test_the_files_of_a_folder_are_hashed_by_name(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "title": "red", "text": "fox"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "red"}\n')
    for split in ("train", "test"):
        (tmp_path / f"qrels/{split}.tsv").write_text("q\td\t1\n")
    (tmp_path / "notes.txt").write_text("not read")
    found = DataProvenance.of(str(tmp_path), split="train", license="mit")
    assert set(found.files) == {"corpus.jsonl", "queries.jsonl", "qrels/train.tsv"}
    assert found == DataProvenance(
        data=str(tmp_path.resolve()), split="train", license="mit", files=found.files
    )


def test_a_base_that_has_learned_from_the_queries_cannot_be_cross_validated(
    validated: Checkpoint, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Every fold would have been seen, and labels that say nothing pass the gate."""
    command = ["train", str(csv), "--base", str(validated.path), "--out", str(tmp_path / "out")]
    assert main([*command, "--cv", "3"]) == 2
    told = f"the base {validated.path} has learned from 12 of the 12 judged queries"
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*command, "--epochs", "0", "--no-lint"]) == 0
    assert f"{told} of judged: held-out figures will be too good" in capsys.readouterr().err
    learned = Checkpoint.open(tmp_path / "out").training["learned_query_ids"]
    assert learned == validated.training["learned_query_ids"]
