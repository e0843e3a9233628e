import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from families import make_family
from small_data import small_dataset, write_csv
from train_support import batches_of

from ranker.artifacts.bundle import Checkpoint
from ranker.contract.encode import Encoder
from ranker.dataset import Dataset, split_queries
from ranker.dataset.groups import Negatives, judged_groups
from ranker.errors import ArtifactError, DataError, TrainError, UsageError
from ranker.lexical.bm25 import BM25Index, FirstPhase
from ranker.model.base import load_weights, open_base
from ranker.model.forward import forward_of
from ranker.model.losses import LOSSES, binary_cross_entropy
from ranker.model.task import RELEVANCE
from ranker.train import TrainArguments, loop, train
from ranker.train.batches import inputs_of
from ranker.train.loop import Validation, run_stage
from ranker.train.reranking import RerankedQueries
from ranker.train.token_store import EncodedGroup, TokenizedTexts

SMALL = {"batch_size": 2, "negatives": 3, "epochs": 2, "held_out": 0.3, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data: Dataset, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    out = tmp_path_factory.mktemp("trained") / "checkpoint"
    arguments = TrainArguments(base=str(tiny_bert), pretrain=True, pretrain_steps=3, **SMALL)
    return train(data, out, arguments=arguments)


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_weights(checkpoint.path).state_dict()


def test_the_checkpoint_is_whole_and_leaves_no_work_folder(trained: Checkpoint) -> None:
    names = {path.name for path in trained.path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "spec.json"} <= names
    assert {"training.json", "loss.svg", "hashes.json"} <= names
    assert [path.name for path in trained.path.parent.iterdir()] == ["checkpoint"]


def test_the_report_tells_what_was_done(trained: Checkpoint, data: Dataset) -> None:
    report = trained.training
    stages = [row["stage"] for row in report["history"]]
    assert stages.count("pretrain") == 3 and stages.count("judged") >= 1
    assert all(row["loss"] > 0 for row in report["history"])
    assert report["held_out"]["queries"] == len(report["held_out_query_ids"]) >= 3
    assert set(report["held_out_query_ids"]) < set(data.qrels)
    assert report["recommended_profile"] in {"bm25", "cross", "blend"}
    assert report["documents_by_source"]["judged"]["positive"] > 0
    assert report["data"]["sha256"] == data.sha256
    figures = report["start"]["ndcg@10"]
    assert figures.keys() == {"base", "pretrained"}
    better = figures["pretrained"] > figures["base"] + 1e-3
    assert report["start"]["stage"] == ("pretrained" if better else "base")


def test_transformers_reads_the_checkpoint(trained: Checkpoint) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(trained.path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained.path)
    pair = tokenizer("red fox", "the red fox", return_tensors="pt")
    assert model(**pair).logits.shape == (1, 1)
    assert trained.encoder().query_ids("red fox") == tokenizer("red fox").input_ids[1:-1]


def test_same_seed_same_weights_and_another_seed_others(
    data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    def once(name: str, seed: int) -> tuple[dict[str, torch.Tensor], list[float]]:
        stages = {"pretrain": True, "pretrain_steps": 3, "epochs": 0}
        arguments = TrainArguments(base=str(tiny_bert), seed=seed, **{**SMALL, **stages})
        checkpoint = train(data, tmp_path / name, arguments=arguments)
        return weights(checkpoint), [row["loss"] for row in checkpoint.training["history"]]

    (first, losses), (again, same), (_, others) = once("a", 3), once("b", 3), once("c", 4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert losses == same != others


CHILD = """
import json, sys
from pathlib import Path
from ranker.dataset import load
from ranker.train import TrainArguments, train
from ranker.train import loop
loop.SAVE_SECONDS = 0.0
data, out, arguments = load(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
def tell(stage, step, steps, loss, ndcg):
    print(stage, step, flush=True)
try:
    train(data, out, arguments=TrainArguments(**arguments), on_progress=tell)
except KeyboardInterrupt:
    sys.exit(130)
"""


RESUMED = {**SMALL, "pretrain": True, "pretrain_steps": 4, "epochs": 2}


@pytest.fixture(scope="module")
def uninterrupted(
    data: Dataset, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    out = tmp_path_factory.mktemp("whole") / "checkpoint"
    return train(data, out, arguments=TrainArguments(base=str(tiny_bert), **RESUMED))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_training_ends_as_one_without_interruption(
    how: signal.Signals, uninterrupted: Checkpoint, data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    arguments = {**RESUMED, "base": str(tiny_bert)}
    out, csv = tmp_path / "checkpoint", write_csv(tmp_path / "judged.csv")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(csv), str(out), json.dumps(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},  # to compile torch once only
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("judged 5"):
            child.send_signal(how)
            break
    child.communicate(timeout=60)
    assert child.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert not out.exists()
    seen = []
    again = train(
        data,
        out,
        arguments=TrainArguments(**arguments),
        on_progress=lambda stage, step, *_: seen.append((stage, step)),
    )
    assert not {("judged", 1), ("pretrain", 1)} & set(seen)  # it resumed and did not restart
    expected, got = weights(uninterrupted), weights(again)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    losses = [[row["loss"] for row in c.training["history"]] for c in (uninterrupted, again)]
    assert losses[0] == losses[1]
    assert again.training["held_out"] == uninterrupted.training["held_out"]


@pytest.mark.parametrize("watched", [True, False])
def test_a_stage_killed_after_its_last_save_does_no_further_step(
    watched: bool, data: Dataset, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where it stopped early, nor where it stopped before its schedule's end."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    arguments = TrainArguments(base=str(tiny_bert), **{**SMALL, "patience": 1})
    base = open_base(str(tiny_bert))
    encoder = Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)
    seen: list[int] = []
    learned, held_out = split_queries(data, held_out=0.3)
    index = FirstPhase(BM25Index(data.documents.values()))
    groups = list(judged_groups(learned, index, negatives=Negatives(), seed=0))
    texts = TokenizedTexts(tmp_path, encoder)
    queries = RerankedQueries(held_out, index, texts, task=RELEVANCE, depth=10, precision="fp32")
    validation = Validation("ndcg@10", queries.ndcg, every=2) if watched else None
    listwise = LOSSES["listwise"].function

    def once() -> tuple[dict[str, torch.Tensor], list[int]]:
        seen.clear()
        transformers.set_seed(0)
        forward, _ = forward_of(load_weights(tiny_bert), segments=True, fused=True)
        with batches_of(groups, encoder, tmp_path, steps=8) as batches:
            result = run_stage(
                forward,
                batches,
                validation,
                stage="judged",
                learning_rate=1e-12 if watched else 3e-3,  # nothing gets better
                schedule=None if watched else 20,
                loss=lambda outputs, *others: listwise(RELEVANCE.logits(outputs), *others),
                arguments=arguments,
                folder=tmp_path,
                on_progress=lambda stage, step, *_: seen.append(step),
            )
        assert result.stopped_early is watched
        return dict(forward.state_dict()), list(seen)

    with contextlib.closing(texts):
        first, steps = once()
        assert (tmp_path / f"checkpoint-{max(steps)}").is_dir() and max(steps) <= 8
        again, more = once()
    assert more == [] and all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
@pytest.mark.parametrize("fused", [True, False])
def test_forward_is_exactly_the_models_own(family: str, fused: bool, tmp_path: Path) -> None:
    model = load_weights(make_family(family, tmp_path)).eval()
    segments = family == "bert"
    ids = torch.randint(5, 90, (4, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 12:] = mask[2, 3:] = 0
    pad = model.config.pad_token_id
    inputs = {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask}
    if segments:
        inputs["token_type_ids"] = (torch.arange(20) > 6).long().expand(4, -1)
    with torch.inference_mode():
        expected = model(**inputs).logits
        forward, last = forward_of(model, segments=segments, fused=fused)
        got = forward.eval()(**inputs)
    assert last == ("cls" if family in {"bert", "roberta"} else "full")
    assert torch.allclose(got, expected, atol=1e-5)
    assert expected.std() > 1e-3  # else any model would pass


def test_frozen_base_keeps_its_weights(data: Dataset, tiny_bert: Path, tmp_path: Path) -> None:
    arguments = TrainArguments(
        base=str(tiny_bert), freeze="base", learning_rate=0.01, **{**SMALL, "epochs": 1}
    )
    after = weights(train(data, tmp_path / "out", arguments=arguments))
    before = load_weights(tiny_bert).state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed <= {"classifier.weight", "classifier.bias"}


def test_it_learns(data: Dataset, tiny_bert: Path, tmp_path: Path) -> None:
    arguments = TrainArguments(
        base=str(tiny_bert), learning_rate=3e-3, **{**SMALL, "epochs": 8, "patience": 8}
    )
    losses = [
        row["loss"]
        for row in train(data, tmp_path / "out", arguments=arguments).training["history"]
    ]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_chunks_hold_every_pair_where_it_belongs(trained: Checkpoint) -> None:
    encoder = trained.encoder()
    groups = [
        EncodedGroup([201, 202], [[203] * n for n in (9, 1, 4)], (1, 0, 0)),
        EncodedGroup([201], [[204] * n for n in (2, 7)], (2, 0)),
    ]
    whole = inputs_of(groups, encoder.spec, chunk=100)
    item = inputs_of(groups, encoder.spec, chunk=2)
    assert [len(chunk["input_ids"]) for chunk in item["chunks"]] == [2, 2, 1]
    assert item["mask"].tolist() == [[True] * 3, [True, True, False]]
    pairs = [
        ids[mask.bool()].tolist()
        for chunk in item["chunks"]
        for ids, mask in zip(chunk["input_ids"], chunk["attention_mask"], strict=True)
    ]
    placed = {row: ids for row, ids in zip(item["order"].tolist(), pairs, strict=True)}
    expected = [(g.query_ids, d) for g in groups for d in g.documents_ids]
    assert [placed[n] for n in range(5)] == [[101, *q, 102, *d, 102] for q, d in expected]
    model = load_weights(trained.path).eval()
    forward = forward_of(model, segments=True, fused=True)[0].eval()
    with torch.inference_mode():
        one, many = ([forward(**chunk) for chunk in i["chunks"]] for i in (whole, item))
    assert torch.allclose(torch.cat(one), torch.cat(many), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"held_out": 1.0}, "held_out must be between 0 and 1"),
        ({"loss": "hinge"}, "loss must be one of bce, pairwise, listwise"),
        ({"random_negatives": 9}, "random_negatives 9 exceeds negatives 5"),
        ({"skip_top": 60}, "skip_top 60 leaves nothing of negatives_depth 60"),
        ({"max_score_ratio": 0.0}, "max_score_ratio must be above 0"),
        ({"precision": "int8"}, "precision must be auto, fp32, bf16 or fp16"),
        ({"learning_rate": 0.0, "max_grad_norm": -1.0}, "learning_rate.*max_grad_norm"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainArguments(**arguments)


def test_bases_that_cannot_be_had(tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(TrainError, match="expected a folder with config.json or a Hugging Face id"):
        open_base(str(tmp_path / "nothing"))
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny_bert / name).read_bytes())
    with pytest.raises(TrainError, match="has no tokenizer"):
        open_base(str(tmp_path))


def test_one_class_only_is_an_error_before_anything_is_written(
    tiny_bert: Path, tmp_path: Path
) -> None:
    from ranker.dataset import load

    path = tmp_path / "zeros.csv"
    path.write_text("query,title,label\n" + "".join(f"q{n},t{n},0\n" for n in range(9)))
    with pytest.raises(DataError):
        train(load(path), tmp_path / "out", arguments=TrainArguments(base=str(tiny_bert), **SMALL))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["zeros.csv"]


def test_another_folder_is_refused_at_once(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    began = time.monotonic()
    with pytest.raises(ArtifactError, match="it holds other files"):
        train(data, tmp_path, arguments=TrainArguments())
    assert time.monotonic() - began < 5


def test_bce_asks_for_the_grades_that_answer(
    tiny_bert: Path, data: Dataset, tmp_path: Path
) -> None:
    """With --min-grade 2 a document of grade 1 is a negative, not a second answer."""
    queries = list(data.qrels)[:4]
    graded = replace(
        data,
        qrels={id_: dict(zip(data.qrels[id_], [2, 1], strict=False)) for id_ in queries},
    )
    taught = []

    def binary(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        taught.append(target[mask].tolist())
        return binary_cross_entropy(logits, target, mask)

    arguments = TrainArguments(base=str(tiny_bert), loss="bce", min_grade=2, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LOSSES, "bce", replace(LOSSES["bce"], function=binary))
        train(graded, tmp_path / "out", arguments=arguments)
    assert {value for row in taught for value in row} == {0.0, 1.0}
    assert all(sum(row) <= 2 for row in taught)  # one answer in each of the two groups


def test_half_a_surrogate_pair_in_a_query_is_a_blank(
    data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    trained = [
        train(
            replace(
                data,
                queries={
                    id_: replace(query, text=f"{query.text} {last}")
                    for id_, query in data.queries.items()
                },
            ),
            tmp_path / f"out{number}",
            arguments=TrainArguments(base=str(tiny_bert), **SMALL),
        )
        for number, last in enumerate((" ", "\ud800"))
    ]
    empty, half = ([row["loss"] for row in made.training["history"]] for made in trained)
    assert empty == half
