"""Heads of two labels, not relevant and relevant: the difference of their logits is served."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from cross_encoders import PAIRS, change, served
from families import drawn, make_family
from sentence_transformers import CrossEncoder
from small_data import small_dataset

from ranker.artifacts.bundle import Bundle
from ranker.cli import main
from ranker.contract.vespa_names import ONNX_INPUTS
from ranker.errors import ArtifactError, ExportError
from ranker.export.to_onnx import export
from ranker.model.base import load_weights
from ranker.model.interchange import IDENTITY, TOLERANCE, open_cross_encoder
from ranker.records import Document
from ranker.train import TrainArguments, train
from ranker.train.teacher import Teacher

RELEVANCE = {0: "not_relevant", 1: "relevant"}


def labelled(family: str, folder: Path, labels: dict[int, str]) -> Path:
    """A sequence classification with these labels."""
    config = transformers.AutoConfig.from_pretrained(make_family(family, folder))
    if family == "bert":  # as of published ones, its tokenizer marks the second segment
        change(folder, "tokenizer_config.json", model_input_names=list(ONNX_INPUTS))
    config.num_labels = len(labels)
    config.id2label = labels
    config.label2id = {name: label for label, name in labels.items()}
    return drawn(config, folder)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_documents_are_ordered_by_the_probability_of_the_second_label(
    family: str, tmp_path: Path
) -> None:
    """By the library's own softmax; heads end in `classifier` or in `classifier.out_proj`."""
    folder = labelled(family, tmp_path / "two", RELEVANCE)
    bundle = export(open_cross_encoder(folder), tmp_path / "bundle")
    ours = served(bundle, PAIRS)
    theirs = CrossEncoder(str(folder), device="cpu")
    logits = theirs.predict(PAIRS)
    probability = theirs.predict(PAIRS, apply_softmax=True)[:, 1]
    assert np.abs(ours - (logits[:, 1] - logits[:, 0])).max() < TOLERANCE and ours.std() > 1e-3
    assert np.abs(1 / (1 + np.exp(-ours)) - probability).max() < TOLERANCE
    assert np.argsort(ours).tolist() == np.argsort(probability).tolist()


def test_the_bundle_names_the_labels(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = labelled("bert", tmp_path / "two", RELEVANCE)
    assert main(["export", str(folder), "--out", str(tmp_path / "bundle")]) == 0
    said = "the logit of its label relevant minus that of not_relevant"
    assert said in capsys.readouterr().err
    origin = Bundle.open(tmp_path / "bundle").origin
    assert origin is not None
    assert (origin["labels"], origin["activation"]) == (["not_relevant", "relevant"], IDENTITY)
    assert origin["cautions"] == []
    assert said in (tmp_path / "bundle" / "README.md").read_text()


@pytest.mark.parametrize(
    "names", [("LABEL_0", "LABEL_1"), ("Non-Relevant", "Relevant"), ("no", "yes")]
)
def test_names_that_leave_a_doubt_are_served_with_a_caution(
    names: tuple[str, str], tmp_path: Path
) -> None:
    folder = labelled("bert", tmp_path / "two", dict(enumerate(names)))
    origin = open_cross_encoder(folder).training["origin"]
    doubtful = names != ("Non-Relevant", "Relevant")
    assert origin["labels"] == list(names) and len(origin["cautions"]) == doubtful
    assert not doubtful or f"{names[0]} and {names[1]}" in origin["cautions"][0]


@pytest.mark.parametrize(
    "names",
    [
        ("NEGATIVE", "POSITIVE"),
        ("entailment", "not_entailment"),
        ("not_entailment", "entailment"),
        ("relevant", "not_relevant"),
        ("LABEL_0", "LABEL_1", "LABEL_2"),
    ],
)
def test_other_labels_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    folder = labelled("bert", tmp_path / "two", dict(enumerate(names)))
    with pytest.raises(ExportError, match=rf"got {len(names)} \({names[0]}, {names[1]}.*classif"):
        open_cross_encoder(folder)
    with pytest.raises(ArtifactError, match="is not a single-logit cross-encoder"):
        Teacher(str(folder), query_slots=32, document_slots=96).load()


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_two_values_that_are_no_classes_are_refused(problem: str, tmp_path: Path) -> None:
    folder = change(labelled("bert", tmp_path / "two", RELEVANCE), problem_type=problem)
    with pytest.raises(ExportError, match="expected a head of one label"):
        open_cross_encoder(folder)


def test_it_is_a_teacher_and_a_base_with_a_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = labelled("bert", tmp_path / "two", RELEVANCE)
    pairs = [(query, Document("d", "", text)) for query, text in PAIRS]
    taught = Teacher(str(folder), query_slots=32, document_slots=96).scores(pairs)
    logits = CrossEncoder(str(folder), device="cpu").predict(PAIRS)
    assert np.abs(np.array(taught) - (logits[:, 1] - logits[:, 0])).max() < TOLERANCE
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    arguments = TrainArguments(
        base=str(folder), epochs=1, batch_size=2, negatives=3, held_out=0.3, learning_rate=1e-9
    )
    checkpoint = train(small_dataset(tmp_path), tmp_path / "checkpoint", arguments=arguments)
    head = load_weights(checkpoint.path, own_head=True).classifier.weight[0]
    assert torch.allclose(head, whole.classifier.weight[1] - whole.classifier.weight[0], atol=1e-5)


def test_a_plain_encoder_has_no_labels_to_fold(tmp_path: Path) -> None:
    """Two labels are what transformers assumes; what it says is not that there is a head."""
    folder = labelled("bert", tmp_path / "two", {0: "LABEL_0", 1: "LABEL_1"})
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder)
    change(folder, architectures=["BertModel"])
    assert load_weights(folder).classifier.out_features == 1
    change(folder, architectures=["BertForSequenceClassification"])
    assert load_weights(folder).classifier.out_features == 1
    with pytest.raises(ArtifactError, match="is not a model of 2 logits: classifier"):
        load_weights(folder, own_head=True)
