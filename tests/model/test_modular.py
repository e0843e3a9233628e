"""Cross-encoders saved as modules: scores are those of sentence-transformers' own CrossEncoder."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cross_encoders import PAIRS, change, served
from families import TEXTS
from modular_encoders import WIDTH, ettin_head, make_modular, score
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import Dense
from sentence_transformers.sentence_transformer.modules import LayerNorm, Normalize
from small_data import small_dataset

from ranker import Reranker
from ranker.artifacts.bundle import Bundle
from ranker.cli import main
from ranker.errors import ArtifactError, ExportError, RankerError
from ranker.export.to_onnx import export
from ranker.files import read_json, sha256, write_json
from ranker.model.base import load_weights, open_base
from ranker.model.forward import forward_of
from ranker.model.interchange import TOLERANCE, open_cross_encoder, open_origin
from ranker.package.application import write
from ranker.records import Document
from ranker.train import TrainArguments, train
from ranker.train.teacher import Teacher
from ranker.verify.parity.check import check_parity
from ranker.verify.parity.pairs import nasty_pairs, special_tokens

HEADS: dict[str, Callable[[], list[torch.nn.Module]]] = {
    "a Dense": lambda: [score()],
    "a Dense without bias": lambda: [score(bias=False)],
    "two of them": lambda: [Dense(WIDTH, 16), score(16)],
    "an activation with weights": lambda: [
        Dense(WIDTH, 16, activation_function=torch.nn.PReLU()),
        LayerNorm(16),
        score(16),
    ],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose head reads CLS."""
    return make_modular("bert", "cls", tmp_path_factory.mktemp("models") / "modular")


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "model"))


def own_scores(folder: Path, pairs: list[tuple[str, str]] = PAIRS) -> np.ndarray:
    theirs = CrossEncoder(str(folder), device="cpu")
    scores: np.ndarray = theirs.predict(pairs, activation_fn=torch.nn.Identity())
    assert scores.std() > 1e-2  # else any head would pass
    return scores


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_scores_are_the_librarys_wherever_it_is_computed(
    family: str, pooling: str, tmp_path: Path
) -> None:
    folder = make_modular(family, pooling, tmp_path / "modular")
    expected = own_scores(folder)
    opened = open_cross_encoder(folder)
    assert opened.spec.segments is (family == "bert")
    assert opened.training["origin"]["cautions"] == []
    assert np.abs(Reranker(folder).score(PAIRS) - expected).max() < TOLERANCE
    bundle = export(opened, tmp_path / "bundle")
    assert np.abs(served(bundle, PAIRS) - expected).max() < TOLERANCE
    parity = read_json(bundle.path / "parity.json", what="")
    assert parity["last_layer"] == ("cls" if (family, pooling) == ("bert", "cls") else "full")
    assert parity["largest_difference"]["all_zero_mask"] < TOLERANCE
    package = write(bundle, tmp_path / "app")
    pairs = nasty_pairs(20, specials=special_tokens(package.tokenizer_json))
    verified = check_parity(package, pairs, vespa=None, engine=False)
    assert (verified.problems, verified.warnings) == ((), ())
    assert verified.figures["scores_torch"] == 60


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_no_logit(pooling: str, tmp_path: Path) -> None:
    folder = make_modular("modernbert", pooling, tmp_path / "modular")
    model = load_weights(folder).eval()
    ids = torch.randint(6, 90, (3, 40), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[:, 25:] = mask[1, 12:] = 0
    forward, _ = forward_of(model, segments=False, fused=False)
    with torch.inference_mode():
        padded = forward.eval()(ids.masked_fill(mask == 0, 4), mask)
        trimmed = forward(ids[:, :25], mask[:, :25])
    assert torch.allclose(padded, trimmed, atol=1e-5) and padded.std() > 1e-2


@pytest.mark.parametrize("head", HEADS)
def test_shorter_heads(head: str, tmp_path: Path) -> None:
    folder = make_modular("bert", "mean", tmp_path / "modular", HEADS[head]())
    bundle = export(open_cross_encoder(folder), tmp_path / "bundle")
    assert np.abs(served(bundle, PAIRS) - own_scores(folder)).max() < TOLERANCE


@pytest.mark.parametrize("mode", ["cls", "mean"])
def test_a_pooling_as_older_releases_saved_it(mode: str, model: Path) -> None:
    named = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
    settings = {"word_embedding_dimension": WIDTH, **{k: n == mode for n, k in named.items()}}
    write_json(model / "1_Pooling" / "config.json", settings)
    assert np.abs(Reranker(model).score(PAIRS) - own_scores(model)).max() < TOLERANCE


def test_it_teaches_its_own_scores(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pairs = [(query, Document("d", "", text)) for query, text in PAIRS]
    scores = Teacher(str(made), query_slots=32, document_slots=96).scores(pairs)
    assert np.abs(np.array(scores) - own_scores(made)).max() < TOLERANCE


def test_a_training_begins_with_its_head_and_is_saved_as_modules(
    made: Path, tmp_path: Path
) -> None:
    data = small_dataset(tmp_path)
    arguments = TrainArguments(
        base=str(made), epochs=1, batch_size=2, negatives=3, held_out=0.3, learning_rate=1e-9
    )
    checkpoint = train(data, tmp_path / "checkpoint", arguments=arguments)
    before, after = load_weights(made), load_weights(checkpoint.path, own_head=True)
    assert torch.allclose(before.layers[0][0].weight, after.layers[0][0].weight, atol=1e-5)
    assert np.abs(own_scores(checkpoint.path) - own_scores(made)).max() < 1e-2
    theirs = CrossEncoder(str(checkpoint.path), device="cpu")
    assert isinstance(theirs.activation_fn, torch.nn.Identity) and len(theirs) == 5
    bundle = export(checkpoint, tmp_path / "bundle")
    assert np.abs(served(bundle, PAIRS) - theirs.predict(PAIRS)).max() < TOLERANCE
    assert "4_Dense/model.safetensors" in checkpoint.training["base"]["files"]
    (checkpoint.path / "4_Dense" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"4_Dense/model\.safetensors was changed"):
        type(checkpoint).open(checkpoint.path)


@pytest.mark.parametrize("options", [{"lora_rank": 4}, {"gradient_checkpointing": True}])
def test_it_is_trained_as_other_bases_are(
    options: dict[str, Any], made: Path, tmp_path: Path
) -> None:
    """Adapters are merged before the modules are saved."""
    arguments = TrainArguments(
        base=str(made), epochs=1, batch_size=2, negatives=3, held_out=0.3, **options
    )
    checkpoint = train(small_dataset(tmp_path), tmp_path / "checkpoint", arguments=arguments)
    assert (
        load_weights(checkpoint.path).state_dict().keys() == load_weights(made).state_dict().keys()
    )
    bundle = export(checkpoint, tmp_path / "bundle")
    assert np.abs(served(bundle, PAIRS) - own_scores(checkpoint.path)).max() < TOLERANCE


def test_an_encoder_of_embeddings_is_a_base_with_a_new_head(model: Path, tmp_path: Path) -> None:
    """Its modules are there as well, and end in no score."""
    rows = read_json(model / "modules.json", what="")[:2]
    normalize = f"{Normalize.__module__}.Normalize"
    write_json(
        model / "modules.json",
        [*rows, {"idx": 2, "name": "2", "path": "2_Normalize", "type": normalize}],
    )
    assert load_weights(model).classifier.out_features == 1
    with pytest.raises(ArtifactError, match="is not a single-logit cross-encoder"):
        load_weights(model, own_head=True)
    with pytest.raises(ExportError, match="got BertModel in config.json"):
        open_cross_encoder(model)


def test_the_modules_files_are_part_of_where_it_comes_from(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["export", str(model), "--out", str(tmp_path / "bundle")]) == 0
    bundle = Bundle.open(tmp_path / "bundle")
    origin = bundle.origin
    assert origin is not None
    layers = {"2_Dense", "3_LayerNorm", "4_Dense"}
    assert origin["files"].keys() == {
        *("config.json", "model.safetensors", "modules.json", "sentence_bert_config.json"),
        *("tokenizer.json", "1_Pooling/config.json"),
        *(f"{layer}/{name}" for layer in layers for name in ("config.json", "model.safetensors")),
    }
    assert origin["files"]["2_Dense/config.json"] == sha256(model / "2_Dense" / "config.json")
    assert "`4_Dense/model.safetensors`" in (tmp_path / "bundle" / "README.md").read_text()
    assert open_origin(origin, model, bundle.spec).spec == bundle.spec
    weights = load_file(model / "4_Dense" / "model.safetensors")
    weights["linear.bias"] += 1
    save_file(weights, model / "4_Dense" / "model.safetensors")
    with pytest.raises(ArtifactError, match="4_Dense/model.safetensors has the sha256"):
        open_origin(origin, model, bundle.spec)


def test_without_the_library_it_is_served_with_a_caution(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    (caution,) = open_cross_encoder(made).training["origin"]["cautions"]
    assert "sentence-transformers 6 is not installed here" in caution


def test_what_the_library_computes_otherwise_is_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = LayerNorm.forward

    def other(self: Any, features: dict[str, Any]) -> dict[str, Any]:
        features = forward(self, features)
        features["sentence_embedding"] = features["sentence_embedding"] + 0.01
        return features

    monkeypatch.setattr(LayerNorm, "forward", other)
    with pytest.raises(ExportError, match="its modules are not what ranker computes"):
        open_cross_encoder(made)


# --- what is not computed ------------------------------------------------------------------------


def setting(file: str, **values: Any) -> Callable[[Path], Any]:
    return lambda folder: change(folder, file, **values)


def module(number: int, **values: Any) -> Callable[[Path], Any]:
    """Change a row of modules.json."""

    def spoil(folder: Path) -> None:
        rows = json.loads((folder / "modules.json").read_text())
        rows[number] |= values
        write_json(folder / "modules.json", rows)

    return spoil


def without(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def half_a_file(folder: Path) -> None:
    path = folder / "2_Dense" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def another_encoder(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


REFUSED: dict[str, tuple[Callable[[Path], Any], type[RankerError], str]] = {
    "an unknown module": (
        module(3, type="sentence_transformers.base.modules.normalize.Normalize"),
        ArtifactError,
        "expected the modules .*, got Transformer, Pooling, Dense, Normalize, Dense",
    ),
    "a module of its own": (
        module(2, type="modeling.Dense"),
        ArtifactError,
        "got modeling.Dense; ranker does not compute others, nor code of a model's own",
    ),
    "an encoder of its own": (
        setting("config.json", auto_map={"AutoModel": "modeling.Own"}),
        ExportError,
        "code of its own",
    ),
    "no pooling": (module(1, type="sentence_transformers.x.Dense"), ArtifactError, "got Transf"),
    "another folder": (module(2, path="../2_Dense"), ArtifactError, "got the path '../2_Dense'"),
    "an encoder elsewhere": (module(0, path="0_T"), ArtifactError, "got the path '0_T'"),
    "several outputs": (
        setting("4_Dense/config.json", out_features=3),
        ArtifactError,
        r"4_Dense/config.json: expected a last Dense of one output, the score, got 3",
    ),
    "a residual": (
        setting("2_Dense/config.json", use_residual=True),
        ArtifactError,
        "2_Dense/config.json: expected a Dense without a residual",
    ),
    "a layer on all tokens": (
        setting("2_Dense/config.json", module_input_name="token_embeddings"),
        ArtifactError,
        "2_Dense/config.json: .* from token_embeddings to sentence_embedding",
    ),
    "another pooling": (
        setting("1_Pooling/config.json", pooling_mode=["cls", "max"]),
        ArtifactError,
        r"expected the pooling mode cls or mean, got \['cls', 'max'\]",
    ),
    "an older pooling": (
        lambda folder: write_json(
            folder / "1_Pooling" / "config.json", {"pooling_mode_lasttoken": True}
        ),
        ArtifactError,
        r"cls or mean, got lasttoken",
    ),
    "an activation of its own": (
        setting("2_Dense/config.json", activation_function="transformers.activations.GELUTanh"),
        ArtifactError,
        "got transformers.activations.GELUTanh",
    ),
    "a layer as an activation": (
        setting("2_Dense/config.json", activation_function="torch.nn.modules.linear.Linear"),
        ArtifactError,
        "expected an activation of torch.nn without arguments.*got torch.nn.modules.linear.Linear",
    ),
    "an activation with arguments": (
        setting("2_Dense/config.json", activation_function="torch.nn.MultiheadAttention"),
        ArtifactError,
        "got torch.nn.MultiheadAttention: .*missing 2 required",
    ),
    "another output of the encoder": (
        setting("sentence_bert_config.json", transformer_task="fill-mask"),
        ArtifactError,
        "sentence_bert_config.json: .* got transformer_task 'fill-mask'",
    ),
    "another width": (
        setting("3_LayerNorm/config.json", dimension=16),
        ArtifactError,
        "3_LayerNorm cannot be read: .* it takes 16 values, what is before it gives 32",
    ),
    "no weights": (without("2_Dense/model.safetensors"), ArtifactError, "2_Dense cannot be read"),
    "half the weights": (half_a_file, ArtifactError, "2_Dense cannot be read"),
    "weights of another layer": (
        setting("2_Dense/config.json", bias=True),
        ArtifactError,
        r"2_Dense cannot be read: .*'linear.bias': \(32,\)}, got {'linear.weight': \(32, 32\)}",
    ),
    "no settings": (without("4_Dense/config.json"), ExportError, "got BertModel in config.json"),
    "settings that are a list": (
        lambda folder: write_json(folder / "4_Dense" / "config.json", [1]),
        ArtifactError,
        "4_Dense/config.json: expected a JSON object, got a list",
    ),
    "weights of another encoder": (
        another_encoder,
        ArtifactError,
        "encoder.layer.1.output.dense.weight .missing.",
    ),
    "prompts": (
        setting("config_sentence_transformers.json", default_prompt_name="query"),
        ExportError,
        "default_prompt_name 'query'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_ranker_does_not_compute_is_refused_in_one_line(
    case: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spoil, error, said = REFUSED[case]
    spoil(model)
    with pytest.raises(error, match=said):
        open_cross_encoder(model)
    capsys.readouterr()
    assert main(["export", str(model), "--out", str(tmp_path / "bundle")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_head_of_several_outputs_is_no_teacher(tmp_path: Path) -> None:
    folder = make_modular("bert", "cls", tmp_path / "m", [*ettin_head()[:2], score(outputs=2)])
    with pytest.raises(ArtifactError, match="of one output, the score, got 2"):
        Teacher(str(folder), query_slots=32, document_slots=96).load()


def test_logits_are_not_rounded_to_ties(tmp_path: Path) -> None:
    """In bfloat16 a logit would have 8 bits; only the encoder is computed in it."""
    folder = make_modular("modernbert", "mean", tmp_path / "modular")
    opened = open_cross_encoder(folder)
    forward, _ = forward_of(load_weights(folder).eval(), segments=False, fused=True)
    ids = opened.encoder().texts_ids([f"{n} of {text}" for n in range(40) for text in TEXTS[:3]])
    rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = forward(rows, (rows > 0).long())[:, 0]
    assert logits.dtype == torch.float32
    assert len(set(logits.tolist())) > 0.9 * len({tuple(row) for row in ids})


def test_the_configuration_is_the_encoders(made: Path) -> None:
    model = load_weights(made, dropout=0.25)
    assert model.config.hidden_dropout_prob == 0.25 and model.base_model is model.encoder
    assert open_base(str(made)).config.model_type == model.config.model_type == "bert"
