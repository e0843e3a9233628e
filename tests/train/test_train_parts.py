"""Memory, adapters and re-mined negatives: parts of a step, token rows, LoRA, windows."""

import contextlib
import random
import resource
import signal
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from families import make_family
from small_data import small_dataset
from train_support import batches_of

from ranker.artifacts.bundle import Checkpoint
from ranker.contract.encode import Encoder, document_text
from ranker.dataset import Dataset
from ranker.dataset.groups import Negatives, TrainingGroup, judged_groups
from ranker.errors import TrainError, UsageError
from ranker.lexical.bm25 import BM25Index, FirstPhase
from ranker.model.base import load_weights, open_base
from ranker.model.forward import forward_of
from ranker.model.lora import add_lora, merge_lora
from ranker.model.losses import LOSSES, Loss
from ranker.train import TrainArguments, loop, train
from ranker.train.batches import plan
from ranker.train.token_store import TokenizedTexts, TokenRows, TokenStore

SMALL = {"batch_size": 4, "negatives": 3, "epochs": 2, "held_out": 0.3, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> Encoder:
    base = open_base(str(tiny_bert))
    return Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)


@pytest.fixture(scope="module")
def plain(data: Dataset, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    arguments = TrainArguments(base=str(tiny_bert), **SMALL)
    return train(data, tmp_path_factory.mktemp("plain") / "out", arguments=arguments)


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_weights(checkpoint.path).state_dict()


def groups_of(data: Dataset, count: int = 3) -> list:
    index = FirstPhase(BM25Index(data.documents.values()))
    return list(judged_groups(data, index, negatives=Negatives(count=count), seed=0))


def grades_of(group: TrainingGroup) -> tuple[int, ...]:
    return group.grades


# Token rows


def test_the_store_returns_what_the_encoder_makes(
    data: Dataset, encoder: Encoder, tmp_path: Path
) -> None:
    groups = groups_of(data)
    with contextlib.closing(TokenizedTexts(tmp_path, encoder)) as texts_of_run:
        rows = TokenStore(texts_of_run, grades_of)
        rows.fill([groups[:3], groups[3:4], groups[4:]])
        assert len(rows) == len(groups) > 5
        for n, group in enumerate(groups):
            encoded = rows[n]
            texts = [document_text(document, encoder.spec) for document in group.documents]
            assert encoded.query_ids == encoder.query_ids(group.query)
            assert encoded.documents_ids == encoder.texts_ids(texts)
            assert list(encoded.target) == list(group.grades)
            longest = max(map(len, encoded.documents_ids))
            assert rows.lengths()[n] == len(encoded.query_ids) + longest
        rows.fill([groups[:2]])
        assert len(rows) == 2
    assert list(tmp_path.iterdir()) == []  # nothing to clean up, even after a kill


@pytest.mark.parametrize("size", [65_536, 65_537, 250_000])
def test_a_text_is_tokenized_once_whatever_the_vocabulary(size: int, tmp_path: Path) -> None:
    draw, seen = random.Random(size), Counter()

    def encode(texts: list[str]) -> list[list[int]]:
        seen.update(texts)
        return [[size - 1 - at for at in range(len(text))] for text in texts]

    with contextlib.closing(TokenRows(tmp_path, encode, vocabulary_size=size)) as rows:
        # A file of no bytes cannot be mapped.
        assert rows.add([""]) == [0] and rows[0].tolist() == []
        for _ in range(20):
            texts = [draw.choice("abcdef") * draw.randrange(9) for _ in range(5)]
            for text, row in zip(texts, rows.add(texts), strict=True):
                assert rows[row].tolist() == [size - 1 - at for at in range(len(text))]
                assert rows.length(row) == len(text)
    assert set(seen.values()) == {1}


MANY = """
import contextlib, resource, sys, tempfile
from pathlib import Path
from ranker.dataset.groups import TrainingGroup
from ranker.contract.encode import Encoder
from ranker.model.base import open_base
from ranker.records import Document
from ranker.train.batches import Batches
from ranker.train.token_store import TokenizedTexts, TokenStore

base = open_base(sys.argv[1])
encoder = Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)

def chunks(count):
    for start in range(0, count, 1000):
        yield [
            TrainingGroup(f"query {n}",
                  tuple(Document(str(d), "", f"w{d} " * 90) for d in range(n, n + 6)),
                  (1, 0, 0, 0, 0, 0), ("positive", *["hard"] * 5))
            for n in range(start, start + 1000)
        ]

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

with tempfile.TemporaryDirectory() as folder:
    for count in (1000, 21000):
        with contextlib.closing(TokenizedTexts(Path(folder), encoder)) as texts:
            rows = TokenStore(texts, lambda group: group.grades)
            batches = Batches(lambda _: chunks(count), rows, encoder.spec, size=8, seed=0,
                              epochs=1, chunk=12)
            for at in range(0, len(batches), 50):
                batches[at]
        print(peak())
"""


def test_memory_hardly_grows_with_the_groups(tiny_bert: Path) -> None:
    """20,000 more groups of six texts of 90 words: 120,000 pairs, 70 MB of text, 23 MB of ids."""
    result = subprocess.run(
        [sys.executable, "-c", MANY, str(tiny_bert)], capture_output=True, text=True, check=True
    )
    few, many = map(float, result.stdout.split())
    assert many - few < 40


def test_a_full_disk_is_said_and_the_file_is_given_back(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with contextlib.closing(TokenRows(tmp_path, lambda _: [[1] * 5000], vocabulary_size=9)) as rows:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
            with pytest.raises(TrainError, match="make room there") as error:
                rows.add(["a text"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert str(tmp_path) in str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_closed_rows_hold_no_file(tmp_path: Path) -> None:
    """A mapped file would be a file still on NFS, so that its folder could not be removed."""
    rows = TokenRows(tmp_path, lambda _: [[1] * 5000], vocabulary_size=9)
    rows.add(["a text"])
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    rows.close()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


# Order, parts and shares


def test_every_group_comes_once_an_epoch_next_to_its_like(
    data: Dataset, encoder: Encoder, tmp_path: Path
) -> None:
    with contextlib.closing(TokenizedTexts(tmp_path, encoder)) as texts:
        rows = TokenStore(texts, grades_of)
        rows.fill([groups_of(data)])
        batches = plan(rows.lengths(), size=3, seed=1)
        again, other = (plan(rows.lengths(), size=3, seed=seed) for seed in (1, 2))
    flat = [n for batch in batches for n in batch.tolist()]
    assert sorted(flat) == list(range(len(groups_of(data))))
    assert [b.tolist() for b in batches] == [b.tolist() for b in again]
    assert [b.tolist() for b in batches] != [b.tolist() for b in other]


@pytest.mark.parametrize(("parts", "processes"), [(1, 1), (2, 1), (1, 3), (2, 2), (5, 2)])
def test_parts_and_shares_add_up_to_the_step(
    parts: int, processes: int, data: Dataset, encoder: Encoder, tmp_path: Path, tiny_bert: Path
) -> None:
    """The gradient is that of the whole step, also where some have fewer groups or none."""
    groups = groups_of(data)[:7]
    loss = LOSSES["listwise"].function

    def gradient(share: tuple[int, int], parts: int) -> torch.Tensor:
        """Mean over a process's items, as accumulation makes it."""
        torch.manual_seed(0)
        model = load_weights(tiny_bert).eval()
        forward, _ = forward_of(model, segments=True, fused=True)
        with batches_of(
            groups, encoder, tmp_path, size=4, parts=parts, share=share, chunk=100
        ) as batches:
            assert batches.steps == 2 and len(batches) == 2 * parts
            for at in range(parts, 2 * parts):  # the second step, which has three groups or four
                item = batches[at]
                found = torch.cat([forward(**chunk)[:, 0] for chunk in item["chunks"]])
                flat = torch.zeros_like(found).index_copy(0, item["order"], found)
                logits = torch.zeros_like(item["target"]).masked_scatter(item["mask"], flat)
                (loss(logits, item["target"], item["mask"]) * item["weight"] / parts).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradient((0, 1), 1)
    shares = [gradient((rank, processes), parts) for rank in range(processes)]
    assert torch.allclose(sum(shares) / processes, whole, atol=1e-6)
    assert whole.abs().max() > 1e-3


def test_a_training_in_parts_is_the_same_training(
    plain: Checkpoint, data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    arguments = TrainArguments(
        base=str(tiny_bert), gradient_accumulation_steps=3, dropout=0.0, **SMALL
    )
    one = TrainArguments(base=str(tiny_bert), dropout=0.0, **SMALL)
    parts, whole = (
        train(data, tmp_path / name, arguments=a)
        for name, a in (("parts", arguments), ("whole", one))
    )
    losses = [[row["loss"] for row in c.training["history"]] for c in (parts, whole)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and len(losses[0]) > 2
    assert parts.training["documents_by_source"] == whole.training["documents_by_source"]


def test_a_step_that_does_not_fit_a_gpu_says_what_needs_less(
    data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    def full(stage: str, step: int, *_: object) -> None:
        if stage == "judged" and step:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    arguments = TrainArguments(base=str(tiny_bert), **SMALL)
    with pytest.raises(TrainError, match="--gradient-accumulation-steps computes it in parts"):
        train(data, tmp_path / "out", arguments=arguments, on_progress=full)


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
def test_checkpointed_gradients_are_the_same(family: str, tmp_path: Path) -> None:
    ids = torch.randint(5, 90, (4, 20), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    folder = make_family(family, tmp_path)

    def gradients(checkpointing: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = load_weights(folder, dropout=0.1)
        with warnings.catch_warnings():  # a name that transformers will do without
            warnings.simplefilter("error")
            forward, _ = forward_of(model, segments=False, fused=True, checkpointing=checkpointing)
        torch.manual_seed(3)
        forward.train()(**inputs).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    kept, again = gradients(False), gradients(True)
    assert torch.allclose(kept, again, rtol=1e-4, atol=1e-6) and kept.abs().max() > 1e-3


# Adapters


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_adapters_merge_into_what_they_computed(family: str, tmp_path: Path) -> None:
    model = load_weights(make_family(family, tmp_path)).eval()
    names = set(model.state_dict())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    add_lora(model, 4)
    forward, _ = forward_of(model, segments=False, fused=True)
    forward.eval()
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("lora_A" in name for name in learning)
    assert all("lora_" in n or "classifier" in n or "pooler" in n or "head" in n for n in learning)
    ids = torch.randint(5, 90, (4, 20), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    untouched = forward(**inputs).detach()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # adapters begin at zero
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    adapted = forward(**inputs).detach()
    merge_lora(model)
    assert set(model.state_dict()) == names
    assert torch.allclose(forward(**inputs), adapted, atol=1e-5)
    assert not torch.allclose(adapted, untouched, atol=1e-3)
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert moved and all(name.endswith(".weight") for name in moved)


def test_a_training_with_adapters_leaves_an_ordinary_checkpoint(
    plain: Checkpoint, data: Dataset, tiny_bert: Path, tmp_path: Path
) -> None:
    arguments = TrainArguments(
        base=str(tiny_bert),
        lora_rank=2,
        learning_rate=0.01,
        pretrain=True,
        pretrain_steps=2,
        **SMALL,
    )
    found = train(data, tmp_path / "out", arguments=arguments)
    after, before = weights(found), load_weights(tiny_bert).state_dict()
    assert after.keys() == weights(plain).keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert any("attention" in name for name in changed)
    assert not any("embeddings" in name or "LayerNorm" in name for name in changed)


# Windows that the model chooses


def test_negatives_come_from_the_half_that_the_model_ranks_higher(data: Dataset) -> None:
    index = FirstPhase(BM25Index(data.documents.values()))
    draw = random.Random(5)
    logits = {
        query_id: {
            doc_id: draw.uniform(-5, 5)
            for doc_id in [d for d, _ in index.search(data.queries[query_id].text, 20)]
            + list(data.qrels[query_id])
        }
        for query_id in data.qrels
    }
    guard = Negatives(count=6, depth=8, logit_margin=1.0)
    texts = {data.queries[query_id].text: query_id for query_id in data.qrels}
    left_out = 0
    for group in judged_groups(data, index, negatives=guard, seed=0, logits=logits):
        row = logits[texts[group.query]]
        judged = data.qrels[texts[group.query]]
        best = sorted(row, key=row.__getitem__, reverse=True)[: 4 + len(judged)]
        left_out += group.left_out.get("logit_margin", 0)
        positive = row[group.documents[0].doc_id]
        for document, source in zip(group.documents, group.sources, strict=True):
            if source == "hard":
                assert document.doc_id in best and document.doc_id not in judged
                assert row[document.doc_id] <= positive - 1.0
            if source == "random" and document.doc_id in row:
                assert row[document.doc_id] <= positive - 1.0
    assert left_out > 0


def test_remined_negatives_survive_an_interruption(
    data: Dataset, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    arguments = TrainArguments(
        base=str(tiny_bert), remine_negatives=True, logit_margin=0.0, learning_rate=3e-3,
        negatives_depth=10, pretrain=True, pretrain_steps=2,
        **{**SMALL, "epochs": 4, "patience": 9},
    )  # fmt: skip
    whole = train(data, tmp_path / "whole", arguments=arguments)
    steps = whole.training["stages"][-1]["steps"]
    seen: list[int] = []

    def stop(stage: str, step: int, *_: object) -> None:
        seen.append(step)
        if stage == "judged" and step == at:
            raise KeyboardInterrupt

    for at in (2, steps // 2 + 1):
        out = tmp_path / f"out-{at}"
        with pytest.raises(KeyboardInterrupt):
            train(data, out, arguments=arguments, on_progress=stop)
        again = train(data, out, arguments=arguments)
        first, second = weights(whole), weights(again)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert again.training["documents_by_source"] == whole.training["documents_by_source"]
    counts = whole.training["documents_by_source"]["judged"]
    assert counts["left out by logit_margin"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"logit_margin": 0.5}, "logit_margin needs remine_negatives"),
        (
            {"remine_negatives": True, "loss": "distill"},
            "remine_negatives has no effect on distill",
        ),
        (
            {"remine_negatives": True, "negatives_depth": 1},
            "remine_negatives needs a negatives_depth of at least 2",
        ),
        ({"lora_rank": 4, "freeze": "base"}, "leave freeze at none"),
        ({"lora_rank": -1}, "lora_rank must be 0 or more"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1"),
        ({"gradient_accumulation_steps": 9, "batch_size": 8}, "steps 9 exceeds batch_size 8"),
        ({"remine_negatives": True, "logit_margin": float("nan")}, "logit_margin must be finite"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainArguments(**arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_without_a_gpu_is_refused(data: Dataset, tiny_bert: Path, tmp_path: Path) -> None:
    arguments = TrainArguments(base=str(tiny_bert), **{**SMALL, "precision": "fp16"})
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        train(data, tmp_path / "out", arguments=arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_is_added_by_one_entry(
    data: Dataset, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[set[float]] = []

    def squared_error(
        logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        learned.append(set(targets[mask].tolist()))
        return (logits - targets)[mask].square().mean()

    def halves(group: TrainingGroup, min_grade: int) -> list[float]:
        return [0.5 if grade >= min_grade else 0.0 for grade in group.grades]

    monkeypatch.setitem(LOSSES, "squared", Loss(function=squared_error, targets=halves))
    arguments = TrainArguments(
        base=str(tiny_bert), loss="squared", epochs=1, batch_size=2, negatives=3, precision="fp32"
    )
    checkpoint = train(data, tmp_path / "out", arguments=arguments)
    assert checkpoint.training["arguments"]["loss"] == "squared"
    assert set().union(*learned) == {0.0, 0.5}
