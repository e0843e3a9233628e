import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from families import headed, make_family
from small_data import small_dataset

from ranker.artifacts.bundle import Checkpoint
from ranker.contract.encode import pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.errors import ArtifactError, UsageError
from ranker.export.graph import OPSET, make_graph, save_graph
from ranker.export.reranker import Reranker
from ranker.export.score import Scorer, open_session
from ranker.export.to_onnx import TOLERANCE, export, probe_pairs
from ranker.model.base import load_weights, open_base, tensors
from ranker.model.forward import forward_of
from ranker.model.heads.similarity import SimilarityHead, is_sentence_encoder
from ranker.model.provenance import check_base, model_provenance
from ranker.train import TrainArguments, train

ABLE = ("bert", "roberta", "xlm-roberta", "modernbert", "mpnet", "distilbert", "electra")
"""Families of the helpers that can have the head."""


def encoder_of(family: str, folder: Path) -> Path:
    return headed(family, folder) if family in ABLE[4:] else make_family(family, folder / "base")


def spec_of(folder: Path) -> TokenSpec:
    return open_base(str(folder), head="similarity").spec(query_slots=12, document_slots=24)


def logits_of(model: torch.nn.Module, spec: TokenSpec, pairs: list) -> np.ndarray:
    rows = pair_inputs(spec, [q for q, _ in pairs], [d for _, d in pairs], length=spec.length)
    with torch.inference_mode():
        outputs = model(**tensors(rows, spec, "cpu"))
    return (outputs if isinstance(outputs, torch.Tensor) else outputs.logits)[:, 0].numpy()


@pytest.mark.parametrize("family", ABLE)
def test_a_closed_pair_is_the_cosine_of_the_texts_encoded_apart(
    family: str, tmp_path: Path
) -> None:
    source = encoder_of(family, tmp_path)
    spec = spec_of(source)
    head = replace(SimilarityHead.of(spec), opening=-1e4)
    pairs = probe_pairs(spec, count=20, seed=3)
    encoder = transformers.AutoModel.from_pretrained(source).eval()

    def vector(ids: list[int]) -> torch.Tensor:
        text = torch.tensor([[spec.cls_id, *ids, spec.sep_id]])
        return encoder(text, torch.ones_like(text)).last_hidden_state[0].mean(0)

    with torch.inference_mode():
        expected = [
            20 * torch.cosine_similarity(vector(query), vector(document), dim=0).item()
            for query, document in pairs
        ]
    closed = logits_of(load_weights(source, similarity=head).eval(), spec, pairs)
    assert np.abs(closed - expected).max() < 1e-4
    opened = load_weights(source, similarity=replace(head, opening=-1.0)).eval()
    assert np.abs(logits_of(opened, spec, pairs) - expected).max() > 1e-2


@pytest.mark.parametrize("family", ABLE)
def test_training_and_export_compute_what_the_library_does(family: str, tmp_path: Path) -> None:
    source = encoder_of(family, tmp_path)
    spec = spec_of(source)
    model = load_weights(source, similarity=SimilarityHead.of(spec)).eval()
    pairs = probe_pairs(spec, count=30, seed=5)
    expected = logits_of(model, spec, pairs)
    assert expected.std() > 1e-2
    for fused in (True, False):
        forward, last_layer = forward_of(model, segments=spec.segments, fused=fused)
        assert last_layer == "full"
        assert np.abs(logits_of(forward.eval(), spec, pairs) - expected).max() < 1e-4
    graph, _ = make_graph(model, spec, opset=OPSET)
    save_graph(graph, tmp_path / "model.onnx", spec)
    session = open_session(tmp_path / "model.onnx", threads=1)
    assert [given.name for given in session.get_inputs()] == ["input_ids", "attention_mask"]
    scorer = Scorer(tmp_path / "model.onnx", spec, threads=1)
    for (query, document), logit in zip(pairs, expected, strict=True):
        row = pair_inputs(spec, [query], [document], length=spec.length)
        one = session.run(None, {g.name: row[g.name] for g in session.get_inputs()})[0]
        assert abs(one[0, 0] - logit) < TOLERANCE
        assert abs(scorer.logits(query, [document])[0] - logit) < TOLERANCE
    scorer.close()


def test_every_weight_learns(tmp_path: Path) -> None:
    source = make_family("bert", tmp_path / "base")
    spec = spec_of(source)
    model = load_weights(source, similarity=SimilarityHead.of(spec), dropout=0.0).train()
    forward, _ = forward_of(model, segments=spec.segments, fused=True)
    forward(**tensors(pair_inputs(spec, [[101, 120]], [[121, 122]]), spec, "cpu")).sum().backward()
    without = [name for name, weight in forward.named_parameters() if weight.grad is None]
    assert without == []


def test_auto_takes_the_head_that_suits_the_base(minilm: Path, tmp_path: Path) -> None:
    assert open_base("all-MiniLM-L6-v2").head == "similarity"
    assert not open_base("all-MiniLM-L6-v2").spec(query_slots=32, document_slots=96).segments
    plain = make_family("bert", tmp_path / "plain")
    assert open_base(str(plain)).head == "cls"
    assert open_base(str(plain), head="similarity").head == "similarity"
    assert open_base("all-MiniLM-L6-v2", head="cls").head == "cls"


@pytest.mark.parametrize(
    "pooling, mean",
    [
        ({"pooling_mode": "mean"}, True),
        ({"pooling_mode": "cls"}, False),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, False),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, False),
    ],
)
def test_the_pooling_says_whether_it_is_a_mean(pooling: dict, mean: bool, tmp_path: Path) -> None:
    modules = [
        {"path": "", "type": "lib.Transformer"},
        {"path": "1_Pooling", "type": "lib.Pooling"},
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    assert is_sentence_encoder(tmp_path) is mean
    (tmp_path / "modules.json").write_text(
        json.dumps([*modules, {"path": "2_Dense", "type": "lib.Dense"}])
    )
    assert not is_sentence_encoder(tmp_path)


def test_a_family_without_such_a_bias_is_refused(tmp_path: Path) -> None:
    source = make_family("deberta-v2", tmp_path / "base")
    with pytest.raises(UsageError, match=r"deberta-v2 family cannot.*use --head cls"):
        open_base(str(source), head="similarity")
    assert open_base(str(source)).head == "cls"


@pytest.fixture(scope="module")
def trained(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("similarity")
    arguments = TrainArguments(
        base=str(tiny_bert), head="similarity", batch_size=2, negatives=3, epochs=1, held_out=0.3,
        precision="fp32", query_slots=12, document_slots=24,
    )  # fmt: skip
    return train(small_dataset(folder), folder / "checkpoint", arguments=arguments)


PAIRS = [
    ("the quick brown fox", "the lazy dog runs away over the fox"),
    ("wing flutter", "wing flutter at high speed " * 12),
    ("a question of far more words than there are slots for it in the contract", "the dog"),
]


def test_a_checkpoint_is_exported_and_scored_alike_everywhere(
    trained: Checkpoint, tmp_path: Path
) -> None:
    assert trained.training["head"] == "similarity"
    bundle = export(trained, tmp_path / "bundle")
    expected = Reranker(trained.path).score(PAIRS)
    assert np.abs(Reranker(bundle.path).score(PAIRS) - expected).max() < TOLERANCE
    assert np.std(expected) > 1e-3


def test_sentence_transformers_scores_a_checkpoint_equally(trained: Checkpoint) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.CrossEncoder(str(trained.path), trust_remote_code=True, device="cpu")
    assert np.abs(model.predict(PAIRS) - Reranker(trained.path).score(PAIRS)).max() < TOLERANCE
    with pytest.raises(ValueError, match="trust_remote_code"):
        library.CrossEncoder(str(trained.path), device="cpu")


def test_training_goes_on_from_such_a_checkpoint(trained: Checkpoint, tmp_path: Path) -> None:
    copy = shutil.copytree(trained.path, tmp_path / "copy")
    assert open_base(str(copy)).head == "similarity"
    with pytest.raises(UsageError, match="already has a similarity head"):
        open_base(str(copy), head="cls")


def test_the_library_does_not_save_a_checkpoint(trained: Checkpoint, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.CrossEncoder(str(trained.path), trust_remote_code=True, device="cpu")
    with pytest.raises(UsageError, match="copy the folder"):
        model.save_pretrained(str(tmp_path / "copy"))


def sentence_encoder(folder: Path) -> Path:
    """A tiny encoder that says that it is a sentence encoder."""
    make_family("bert", folder)
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder)
    modules = [
        {"path": "", "type": "lib.Transformer"},
        {"path": "1_Pooling", "type": "lib.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    return folder


def test_what_decides_the_head_is_part_of_the_base(tmp_path: Path) -> None:
    """Without these files the base would get another head, so they are hashed with it."""
    base = open_base(str(sentence_encoder(tmp_path / "base")))
    assert base.head == "similarity"
    before = model_provenance(base)
    assert {"modules.json", "1_Pooling/config.json"} < before["files"].keys()
    (tmp_path / "base" / "modules.json").unlink()
    with pytest.raises(ArtifactError, match=r"modules\.json"):
        check_base(before, open_base(str(tmp_path / "base")))


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("modules.json", "3", "expected a list of modules, got int"),
        ("modules.json", "null", "expected a list of modules, got NoneType"),
        ("1_Pooling/config.json", "[]", "expected an object, got list"),
    ],
)
def test_damaged_modules_are_refused(
    name: str, content: str, expected: str, tmp_path: Path
) -> None:
    folder = sentence_encoder(tmp_path / "base")
    (folder / name).write_text(content)
    with pytest.raises(ArtifactError, match=f"{name}: {expected}"):
        open_base(str(folder))


@pytest.mark.parametrize(
    "values",
    [
        True,
        "similarity",
        [],
        {"cls_id": 1},
        {"cls_id": 1, "sep_id": 2, "separators": 9, "scale": 20.0, "opening": -5.0},
        {"cls_id": 1, "sep_id": 2, "separators": 1, "scale": "20", "opening": -5.0},
        {"cls_id": 1, "sep_id": 2, "separators": 1, "scale": 20.0, "opening": -5.0, "more": 1},
    ],
)
def test_a_damaged_head_is_refused(values: object) -> None:
    with pytest.raises(ArtifactError, match="expected a similarity_head with numbers for cls_id"):
        SimilarityHead.of_values({"similarity_head": values})


def test_a_head_without_weights_needs_an_encoder_that_learns(tmp_path: Path) -> None:
    base = sentence_encoder(tmp_path / "base")
    arguments = TrainArguments(base=str(base), freeze="base")
    with pytest.raises(UsageError, match="--freeze base leaves nothing to train"):
        train(small_dataset(tmp_path), tmp_path / "out", arguments=arguments)
