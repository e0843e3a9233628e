"""The stage that learns from the corpus: it stops by documents that it never learns from."""

import contextlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import write_csv

from ranker.artifacts.bundle import Checkpoint
from ranker.cli.console import progress
from ranker.cli.train import _training_bar
from ranker.contract.encode import Encoder
from ranker.dataset import Dataset, load
from ranker.dataset.groups import TrainingGroup
from ranker.model.base import load_weights, open_base
from ranker.model.forward import forward_of
from ranker.model.task import RELEVANCE
from ranker.records import Document
from ranker.train import TrainArguments, loop, train
from ranker.train.reranking import GroupEvaluations, RerankedGroups
from ranker.train.token_store import TokenizedTexts

SMALL = {
    "batch_size": 4, "negatives": 4, "epochs": 0, "held_out": 0.3, "precision": "fp32",
    "pretrain": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Of 150 documents, enough to hold some out."""
    return load(write_csv(tmp_path_factory.mktemp("data") / "judged.csv", queries=30))


def pretrained(data: Dataset, base: Path, out: Path, **options: object) -> Checkpoint:
    return train(data, out, arguments=TrainArguments(base=str(base), **{**SMALL, **options}))


def encoder_weights(checkpoint: Checkpoint | Path) -> dict[str, torch.Tensor]:
    """All weights but the head, which a seed makes."""
    folder = checkpoint.path if isinstance(checkpoint, Checkpoint) else checkpoint
    state = load_weights(folder).state_dict()
    return {name: value for name, value in state.items() if name.startswith("bert.encoder")}


def of_pretraining(checkpoint: Checkpoint) -> tuple[dict, list[dict]]:
    """What training.json says of the stage: its row, and its evaluations."""
    (stage,) = checkpoint.training["stages"]
    return stage, checkpoint.training["evaluations"]


def test_it_ends_with_the_weights_of_its_best_evaluation(
    data: Dataset, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are given, so that the best is neither the first nor the last one."""
    figures = iter([0.3, 0.5, 0.4, 0.45])
    weights = []

    def mrr(self: RerankedGroups, forward: torch.nn.Module) -> float:
        weights.append({name: value.clone() for name, value in forward.state_dict().items()})
        return next(figures)

    monkeypatch.setattr(RerankedGroups, "mrr", mrr)
    monkeypatch.setattr(GroupEvaluations, "of", lambda *_, **__: GroupEvaluations(20, 3))
    left = []
    monkeypatch.setattr(
        loop, "restore", lambda forward, path: left.append(torch.load(path, weights_only=True))
    )
    stage, evaluations = of_pretraining(
        pretrained(data, tiny_bert, tmp_path / "out", pretrain_steps=20, patience=2)
    )
    assert [(row["step"], row["mrr"]) for row in evaluations] == [
        (0, 0.3), (3, 0.5), (6, 0.4), (9, 0.45),
    ]  # fmt: skip
    assert all(row.keys() == {"stage", "step", "mrr"} for row in evaluations)
    assert stage == {"stage": "pretrain", "steps": 20, "best_step": 3, "stopped_early": True}
    assert all(torch.equal(left[0][name], value) for name, value in weights[1].items())
    assert not all(torch.equal(left[0][name], value) for name, value in weights[2].items())


def test_it_learns_and_evaluates_its_last_step(
    data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    stage, evaluations = of_pretraining(
        pretrained(
            data, tiny_bert, tmp_path / "out", pretrain_steps=30, pretrain_learning_rate=3e-3
        )
    )
    assert evaluations[0]["step"] == 0 and evaluations[-1]["step"] == 30
    assert evaluations[-1]["mrr"] > evaluations[0]["mrr"] and stage["best_step"] > 0


def test_training_that_only_makes_it_worse_ends_where_it_started(
    data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    got = pretrained(data, tiny_bert, tmp_path / "out", pretrain_steps=4, pretrain_learning_rate=30)
    stage, evaluations = of_pretraining(got)
    assert stage["best_step"] == 0 and evaluations[0]["mrr"] > evaluations[-1]["mrr"]
    before, after = encoder_weights(tiny_bert), encoder_weights(got)
    assert before and all(torch.equal(before[name], after[name]) for name in before)


def test_a_small_corpus_takes_all_its_steps_and_says_so(
    tiny_bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = load(write_csv(tmp_path / "judged.csv", queries=4))
    ten = dict(list(small.documents.items())[:10])
    qrels = {
        id_: {doc_id: grade for doc_id, grade in row.items() if doc_id in ten}
        for id_, row in small.qrels.items()
    }
    qrels = {id_: row for id_, row in qrels.items() if row}
    queries = {id_: small.queries[id_] for id_ in qrels}
    tiny = replace(small, documents=ten, queries=queries, qrels=qrels)
    with caplog.at_level(logging.WARNING, logger="ranker"):
        got = pretrained(tiny, tiny_bert, tmp_path / "out", pretrain_steps=3, held_out=0.5)
    stage, evaluations = of_pretraining(got)
    assert stage == {"stage": "pretrain", "steps": 3, "best_step": 3, "stopped_early": False}
    assert evaluations == []
    assert "10 documents is too small to hold some out, so all 3 steps are taken" in caplog.text


def test_an_interrupted_stage_ends_as_one_without_interruption(
    data: Dataset, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(GroupEvaluations, "of", lambda *_, **__: GroupEvaluations(20, 4))
    options = {"pretrain_steps": 14, "pretrain_learning_rate": 3e-3, "patience": 9}
    whole = pretrained(data, tiny_bert, tmp_path / "whole", **options)
    arguments = TrainArguments(base=str(tiny_bert), **{**SMALL, **options})
    for at in (2, 9, 14):

        def stop(stage: str, step: int, *_: object, at: int = at) -> None:
            if stage == "pretrain" and step == at:
                raise KeyboardInterrupt

        out = tmp_path / f"out-{at}"
        with pytest.raises(KeyboardInterrupt):
            train(data, out, arguments=arguments, on_progress=stop)
        again = pretrained(data, tiny_bert, out, **options)
        assert json.dumps(of_pretraining(again)) == json.dumps(of_pretraining(whole))
        expected, got = encoder_weights(whole), encoder_weights(again)
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_its_progress_names_its_own_measure(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=True) as bars:
        show = _training_bar(bars, "nDCG@10")
        show("pretrain", 0, 9, None, 0.25)
        show("judged", 3, 9, None, 0.5)
    said = capsys.readouterr().err
    assert "pretrain step 0/9: MRR 0.2500 (held-out documents)" in said
    assert "judged step 3/9: nDCG@10 0.5000 (held-out queries)" in said


def test_the_reciprocal_rank_counts_equals_and_what_is_not_a_number_as_better(
    tiny_bert: Path, tmp_path: Path
) -> None:
    base = open_base(str(tiny_bert))
    encoder = Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)
    documents = tuple(Document(str(n), "", "red fox " * (n + 1)) for n in range(4))

    forward, _ = forward_of(load_weights(tiny_bert), segments=True, fused=True)

    def mrr(*scores: list[float]) -> float:
        groups = [
            TrainingGroup("fox", documents[: len(row)], (1, *[0] * (len(row) - 1)), ())
            for row in scores
        ]
        task = replace(RELEVANCE, score=lambda _: np.concatenate([np.array(row) for row in scores]))
        with contextlib.closing(TokenizedTexts(tmp_path, encoder)) as texts:
            reranked = RerankedGroups(groups, texts, task=task, precision="fp32")
            return reranked.mrr(forward)

    assert mrr([3, 1, 2]) == 1
    assert mrr([2, 1, 3, 0]) == 1 / 2
    assert mrr([1, 1, 1, 0]) == 1 / 3
    assert mrr([float("nan")] * 4) == 1 / 4
    assert mrr([3, 1, 2], [0, 1], [5, 6, 7, 8]) == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)


@pytest.mark.parametrize(
    ("steps", "pairs", "expected"),
    [
        (300, 300 * 48, (100, 100)),
        (3000, 3000 * 48, (100, 97)),
        (60, 60 * 48, (31, 30)),
        (3, 3 * 20, (20, 3)),
    ],
)
def test_evaluations_take_a_tenth_of_the_time(
    steps: int, pairs: int, expected: tuple[int, int]
) -> None:
    evaluations = GroupEvaluations.of(steps, pairs=pairs)
    assert evaluations == expected
