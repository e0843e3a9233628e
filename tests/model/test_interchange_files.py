"""Cross-encoders as their files come: heads, weights, tokenizers, lengths, and what is damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from cross_encoders import PAIRS, change, served
from families import drawn, headed, make_family
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder

from ranker.artifacts.bundle import Bundle
from ranker.cli import main
from ranker.contract import vespa_names
from ranker.contract.encode import pair_inputs
from ranker.errors import ArtifactError, ExportError, RankerError, SpecError
from ranker.export.score import open_session
from ranker.export.to_onnx import export
from ranker.files import write_json
from ranker.model.interchange import TOLERANCE, open_cross_encoder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("bert", tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(bert, tmp_path / "model"))


def rebuilt(folder: Path, **settings: Any) -> Path:
    """Sample the model of this folder again, with another configuration."""
    config = transformers.AutoConfig.from_pretrained(folder, **settings)
    return drawn(config, folder)


def assert_served_as_theirs(folder: Path, tmp_path: Path, **slots: int) -> Bundle:
    """The engine's logits are those of sentence-transformers, and not all the same."""
    bundle = export(open_cross_encoder(folder, **slots), tmp_path / "bundle")
    theirs = CrossEncoder(str(folder), model_kwargs={"dtype": "float32"})
    logits = theirs.predict(PAIRS, activation_fn=torch.nn.Identity())
    assert np.abs(served(bundle, PAIRS) - logits).max() < TOLERANCE and logits.std() > 1e-3
    return bundle


@pytest.mark.parametrize("head", ["electra", "distilbert", "albert", "mpnet"])
def test_heads_of_other_families(head: str, tmp_path: Path) -> None:
    assert_served_as_theirs(headed(head, tmp_path), tmp_path)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_head_on_cls_or_on_the_mean_of_all_tokens(pooling: str, tmp_path: Path) -> None:
    """Equal with and without padding, and a number for a row without any token."""
    folder = rebuilt(make_family("modernbert", tmp_path / "m"), classifier_pooling=pooling)
    bundle = assert_served_as_theirs(folder, tmp_path)
    parity = json.loads((bundle.path / "parity.json").read_text())
    assert max(parity["largest_difference"].values()) < TOLERANCE
    encoder, session = bundle.encoder(), open_session(bundle.model, threads=1)
    ids = [encoder.query_ids(PAIRS[0][0])], encoder.texts_ids([PAIRS[0][1]])
    logits = [
        session.run(None, {n: inputs[n] for n in bundle.spec.model_inputs})[0].item()
        for inputs in (pair_inputs(bundle.spec, *ids, length=n) for n in (None, 60, 128))
    ]
    assert max(logits) - min(logits) < TOLERANCE


def test_a_family_that_onnx_runtime_does_not_compute_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Longformer's graph holds sizes of the example that it was traced with."""
    folder = headed("longformer", tmp_path)
    assert main(["export", str(folder), "--out", str(tmp_path / "bundle")]) == 1
    error = capsys.readouterr().err
    assert "error: ONNX Runtime cannot compute the exported model, so it cannot be served" in error
    assert "Traceback" not in error and not (tmp_path / "bundle").exists()


# --- weights and tokenizers ----------------------------------------------------------------------


def old_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def in_shards(folder: Path) -> None:
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    loaded.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def in_half_precision(folder: Path) -> None:
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    loaded.half().save_pretrained(folder)


def with_a_vocabulary_only(folder: Path) -> None:
    """As models were published before there was a tokenizer.json."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")
    (folder / "tokenizer.json").unlink()
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})


FORMS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "old weights": (old_weights, {"config.json", "pytorch_model.bin", "tokenizer.json"}),
    "shards": (in_shards, {"config.json", "model-00001-of-00006.safetensors", "tokenizer.json"}),
    "half precision": (in_half_precision, {"config.json", "model.safetensors", "tokenizer.json"}),
    "vocabulary only": (with_a_vocabulary_only, {"config.json", "model.safetensors"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_and_tokenizers_of_every_form(form: str, model: Path, tmp_path: Path) -> None:
    spoil, files = FORMS[form]
    spoil(model)
    bundle = assert_served_as_theirs(model, tmp_path)
    assert files <= bundle.about["origin"]["files"].keys()


# --- lengths and cautions ------------------------------------------------------------------------


def test_a_model_of_fewer_positions_needs_fewer_slots(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rebuilt(model, max_position_embeddings=100)
    with pytest.raises(
        SpecError, match=r"128 slots, .* at most 100 positions; choose fewer query_"
    ):
        open_cross_encoder(model)
    short = ["--query-slots", "40", "--document-slots", "60"]
    assert main(["export", str(model), "--out", str(tmp_path / "by-command"), *short]) == 0
    capsys.readouterr()
    assert_served_as_theirs(model, tmp_path, query_slots=40, document_slots=60)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "sentence_bert_config.json"])
def test_a_model_that_was_used_with_shorter_pairs_is_served_with_a_caution(
    file: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    key = "model_max_length" if file == "tokenizer_config.json" else "max_seq_length"
    change(model, file, **{key: 64})
    assert main(["export", str(model), "--out", str(tmp_path / "bundle")]) == 0
    said = "its own library truncates a pair to 64 tokens"
    assert said in capsys.readouterr().err
    (caution,) = Bundle.open(tmp_path / "bundle").about["origin"]["cautions"]
    assert said in caution and "the slots hold 128" in caution
    assert f"**Caution**: {said}" in (tmp_path / "bundle" / "README.md").read_text()
    opened = open_cross_encoder(model, query_slots=16, document_slots=48)
    assert opened.training["origin"]["cautions"] == []


def test_a_regression_of_one_value_is_served_with_a_caution(model: Path) -> None:
    """So transformers' own Trainer marks rerankers; an estimate of something else looks alike."""
    assert open_cross_encoder(model).training["origin"]["cautions"] == []
    change(model, problem_type="regression")
    (caution,) = open_cross_encoder(model).training["origin"]["cautions"]
    assert "calls its logit a regression's value" in caution


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, "Tanh"),
        ({"sentence_transformers": {"activation_fn": None, "version": "4.0"}}, "Sigmoid"),
        ({"sentence_transformers": "4.0"}, "Sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "Identity"),
        ({}, "Sigmoid"),
    ],
)
def test_the_activation_is_found_where_versions_keep_it(
    settings: dict[str, Any], found: str, model: Path
) -> None:
    change(model, **settings)
    activation = open_cross_encoder(model).training["origin"]["activation"]
    assert activation.rsplit(".", 1)[-1] == found


# --- what cannot be served -----------------------------------------------------------------------


def test_a_model_that_is_too_large_for_vespa_is_refused_at_once(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vespa_names, "LARGEST_MODEL", 50_000)
    with pytest.raises(ExportError, match=r"has 0\.0 GB of weights .* a smaller cross-encoder"):
        export(open_cross_encoder(bert), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def more_tokens(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)


def no_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def half_a_file(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def written(name: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / name, value)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DAMAGED: dict[str, tuple[Callable[[Path], Any], type[RankerError], str]] = {
    "several values": (
        lambda folder: rebuilt(folder, num_labels=3, problem_type="regression"),
        ExportError,
        "expected a head of one label.* got 3 .*a regression of several values",
    ),
    "tokens without embeddings": (more_tokens, ExportError, "no embedding for .*301 of 'zebra'"),
    "weights that are not numbers": (no_numbers, ExportError, "logits are nan.*damaged"),
    "half the weights": (half_a_file, ArtifactError, "weights of .* cannot be read"),
    "no weights": (without("model.safetensors"), ArtifactError, "no file named model.safetensors"),
    "no tokenizer": (
        without("tokenizer.json"),
        ExportError,
        r"model: it has no tokenizer .*no tokenizer.json.*save_pretrained",
    ),
    "a tokenizer that is a list": (
        written("tokenizer.json", []),
        ExportError,
        "transformers cannot read its tokenizer",
    ),
    "a tokenizer's settings that are a list": (
        written("tokenizer_config.json", []),
        ExportError,
        "transformers cannot read its tokenizer",
    ),
    "an unknown family": (
        lambda folder: change(folder, model_type="foobert"),
        ExportError,
        "model: expected .*model type `foobert`",
    ),
    "a configuration that is a list": (
        written("config.json", []),
        ArtifactError,
        "config.json: expected a JSON object, got a list",
    ),
    "an architecture that is a number": (
        lambda folder: change(folder, architectures=7),
        ExportError,
        "got 7 in config.json",
    ),
    "modules without types": (
        written("modules.json", [{"path": ""}]),
        ExportError,
        "expected one module",
    ),
    "modules that are not a list": (
        written("modules.json", {"a": 1}),
        ExportError,
        "expected one module",
    ),
    "settings that are a list": (
        written("config_sentence_transformers.json", [1]),
        ArtifactError,
        "expected a JSON object, got a list",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_cannot_be_served_is_refused_in_one_line(
    case: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spoil, error, said = DAMAGED[case]
    spoil(model)
    with pytest.raises(error, match=said):
        open_cross_encoder(model)
    capsys.readouterr()
    assert main(["export", str(model), "--out", str(tmp_path / "bundle")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
