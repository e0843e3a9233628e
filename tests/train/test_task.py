"""A second task, two classes of documents, goes the whole way without a change of the rest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_data import small_dataset, write_csv

from ranker.artifacts.bundle import Bundle, Checkpoint
from ranker.cli import main
from ranker.contract.encode import pair_inputs
from ranker.dataset import Dataset
from ranker.dataset.groups import TrainingGroup
from ranker.errors import UsageError
from ranker.export.score import open_session
from ranker.export.tasks import EXPORTS
from ranker.export.to_onnx import TOLERANCE, export
from ranker.model.base import load_weights
from ranker.model.card import CARDS
from ranker.model.losses import Loss
from ranker.model.task import RELEVANCE, TASKS, Task, task_of
from ranker.report import page
from ranker.report.tasks import REPORTS
from ranker.train import TrainArguments, train
from ranker.train.reranking import Measure, RerankedQueries
from ranker.train.stages import Stages
from ranker.train.tasks import TRAININGS

SMALL = {"batch_size": 2, "negatives": 3, "epochs": 2, "held_out": 0.3, "precision": "fp32"}


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    assert logits.shape == (*targets.shape, 2)
    return torch.nn.functional.cross_entropy(logits[mask], targets[mask].long())


def classes(group: TrainingGroup, min_grade: int) -> list[float]:
    return [float(grade >= min_grade) for grade in group.grades]


def accuracy(queries: RerankedQueries, forward: torch.nn.Module) -> float:
    outputs = queries.outputs(forward)
    assert outputs.shape == (len(queries.pairs), 2)
    wanted = [queries.qrels[query_id].get(doc_id, 0) > 0 for query_id, doc_id in queries.pairs]
    return float((outputs.argmax(axis=1) == wanted).mean())


class ClassTraining:
    """What training does for the task besides minimising its loss."""

    MEASURE = Measure("accuracy", accuracy)

    def conclude(
        self, stages: Stages, forward: torch.nn.Module, held_out: Dataset
    ) -> dict[str, Any]:
        value = self.MEASURE.of(stages.queries(held_out), forward)
        return {"held_out": {"queries": len(held_out.qrels), "accuracy": value}}

    def cross_validate(self, *_: object, **__: object) -> Any:
        raise UsageError("the task classes has no cross-validation")

    def summary(self, report: Mapping[str, Any]) -> tuple[list[str], list[list[str]], str]:
        return ["held out", "accuracy"], [["", f"{report['held_out']['accuracy']:.4f}"]], ""


class ClassCard:
    """The words of the model card."""

    def front_matter(self, training: Mapping[str, Any], name: str) -> dict[str, Any]:
        return {"pipeline_tag": "text-classification"}

    def summary(self, training: Mapping[str, Any]) -> list[str]:
        return ["Two logits for a query and a document."]

    def worth(self, training: Mapping[str, Any], *, forced: bool) -> list[str]:
        return [f"Accuracy {training['held_out']['accuracy']:.4f}"]

    def use(self, training: Mapping[str, Any]) -> list[str]:
        return []

    def folds(self, cv: Mapping[str, Any]) -> list[str]:
        return []


class ClassExport:
    """What an export passes."""

    def pass_gate(self, checkpoint: Checkpoint, *, force: bool) -> bool:
        return False

    def about(self, training: Mapping[str, Any]) -> dict[str, Any]:
        return {"accuracy": training["held_out"]["accuracy"]}


class ClassReport:
    """The words of the report."""

    CHOSEN = "the best step"

    def headline(self, training: Mapping[str, Any]) -> str:
        return "Two classes were learned"

    def held_out(self, training: Mapping[str, Any]) -> dict[str, Any]:
        held = training["held_out"]
        row = {"name": "model", "value": f"{held['accuracy']:.3f}", "recommended": False}
        return {
            "measure": "accuracy", "queries": held["queries"], "of": "what", "rows": [row],
            "note": "",
        }  # fmt: skip

    def facts(self, training: Mapping[str, Any]) -> list[tuple[str, str]]:
        return []

    def calibration(self, training: Mapping[str, Any], *, ident: str) -> dict[str, Any] | None:
        return None

    def choice(self, training: Mapping[str, Any], *, on_this_page: bool) -> str:
        raise AssertionError("no application of this task is evaluated")

    def bundle_facts(self, bundle: Bundle) -> list[tuple[str, str]]:
        return [("Accuracy", f"{bundle.about['accuracy']:.3f}")]

    def bundle_summary(self, bundle: Bundle) -> dict[str, Any]:
        return {"accuracy": bundle.about["accuracy"]}


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return small_dataset(tmp_path)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    made = Task(
        name="classes",
        outputs=2,
        losses={"ce": Loss(function=cross_entropy, targets=classes)},
        default_loss="ce",
        logits=lambda outputs: outputs,
        score=lambda outputs: outputs[..., 1] - outputs[..., 0],
    )
    monkeypatch.setitem(TASKS, made.name, made)
    monkeypatch.setitem(EXPORTS, made.name, ClassExport())
    monkeypatch.setitem(CARDS, made.name, ClassCard())
    monkeypatch.setitem(REPORTS, made.name, ClassReport())
    monkeypatch.setitem(TRAININGS, made.name, ClassTraining())
    return made


def test_a_task_is_trained_stopped_and_measured_in_its_own_terms(
    task: Task, data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    arguments = TrainArguments(
        base=str(tiny_bert), task=task.name, loss="ce", pretrain=True, pretrain_steps=2,
        remine_negatives=True, **SMALL,
    )  # fmt: skip
    checkpoint = train(data, tmp_path / "out", arguments=arguments)
    report = checkpoint.training
    assert task_of(report) is task
    assert {row["stage"] for row in report["history"]} == {"pretrain", "judged"}
    assert report["evaluations"] and all(0 <= row["accuracy"] <= 1 for row in report["evaluations"])
    assert "ndcg@10" not in report["evaluations"][0]
    best = max(report["evaluations"], key=lambda row: row["accuracy"])
    assert report["stages"][-1]["best_step"] == best["step"]
    assert set(report["held_out"]) == {"queries", "accuracy"}
    text = (checkpoint.path / "README.md").read_text()
    assert "Two logits" in text and "held-out accuracy" in text and "BM25" not in text
    assert load_weights(checkpoint.path, outputs=2, own_head=True).config.num_labels == 2

    bundle = export(checkpoint, tmp_path / "bundle")
    assert bundle.about["task"] == "classes" and bundle.training == report
    assert bundle.about["accuracy"] == report["held_out"]["accuracy"]
    session = open_session(bundle.model, threads=1)
    inputs = pair_inputs(bundle.spec, [[5, 6]] * 3, [[7], [8, 9], []])
    assert session.run(None, dict(inputs))[0].shape == (3, 2)
    differences = json.loads((bundle.path / "parity.json").read_text())["largest_difference"]
    assert max(differences.values()) < TOLERANCE

    html = page([checkpoint.path, bundle.path], tmp_path / "page.html").read_text()
    assert "Two classes were learned" in html and "Mean accuracy on" in html
    assert "accuracy, held-out queries" in html and "nDCG" not in html
    summary = json.loads((tmp_path / "page.json").read_text())
    assert summary["bundles"][0]["accuracy"] == report["held_out"]["accuracy"]


def test_progress_names_the_measure_of_the_task(
    task: Task, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["train", str(write_csv(tmp_path / "judged.csv")), "--out", str(tmp_path / "out")]
    words += ["--base", str(tiny_bert), "--task", task.name, "--loss", "ce", "--epochs", "1"]
    assert main([*words, "--batch-size", "2", "--held-out", "0.3", "--no-lint"]) == 0
    told = capsys.readouterr()
    assert "accuracy 0." in told.err and "nDCG" not in told.err + told.out


def test_a_task_has_its_own_losses(task: Task) -> None:
    with pytest.raises(UsageError, match="loss must be one of ce, got listwise"):
        TrainArguments(task=task.name)
    with pytest.raises(UsageError, match="task must be one of relevance, classes, got spans"):
        TrainArguments(task="spans")
    assert TrainArguments().task == RELEVANCE.name
