"""The padding token is the one that a model's files name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cross_encoders import PAIRS, change, served
from families import make_family
from sentence_transformers import CrossEncoder
from torch.nn import Identity

from ranker.cli import main
from ranker.errors import SpecError
from ranker.export.to_onnx import export
from ranker.files import write_json, write_text
from ranker.model.base import open_base
from ranker.model.interchange import TOLERANCE, open_cross_encoder

FILL = 0
"""The id of the tiny BERT's padding token, here under a name that no family has."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_family("bert", tmp_path_factory.mktemp("models") / "bert")
    path = folder / "tokenizer.json"
    write_text(path, path.read_text().replace("[PAD]", "[FILL]"))
    assert json.loads(path.read_text())["padding"] is None
    for name in ("tokenizer_config.json", "config.json"):
        forget(folder / name)
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A copy in which no file names the padding token."""
    return Path(shutil.copytree(made, tmp_path / "model"))


def forget(path: Path) -> None:
    values = json.loads(path.read_text())
    kept = {key: value for key, value in values.items() if not key.startswith("pad_token")}
    write_json(path, kept)


def pad_id(folder: Path) -> int:
    return open_base(str(folder)).spec(query_slots=32, document_slots=96).pad_id


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("tokenizer_config.json", {"pad_token": "[FILL]"}),
        ("tokenizer_config.json", {"pad_token": {"content": "[FILL]", "special": True}}),
        ("special_tokens_map.json", {"pad_token": "[FILL]"}),
        ("config.json", {"pad_token_id": FILL}),
    ],
)
def test_any_of_the_files_may_name_it(file: str, said: dict[str, Any], model: Path) -> None:
    with pytest.raises(SpecError, match="the tokenizer has no padding token; its added tokens"):
        pad_id(model)
    assert pad_id(change(model, file, **said)) == FILL


def test_a_token_of_another_name_is_served_with_the_librarys_scores(
    model: Path, tmp_path: Path
) -> None:
    """A piece of the vocabulary that is not an added token, and not the usual one."""
    change(model, "tokenizer_config.json", pad_token="[unused7]")
    opened = open_cross_encoder(model)
    vocabulary = json.loads(opened.tokenizer_json)["model"]["vocab"]
    assert opened.spec.pad_id == vocabulary["[unused7]"] == 8
    scores = served(export(opened, tmp_path / "bundle"), PAIRS)
    theirs = CrossEncoder(str(model), device="cpu").predict(PAIRS, activation_fn=Identity())
    assert abs(scores - theirs).max() < TOLERANCE


def test_files_that_disagree_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    change(model, "tokenizer_config.json", pad_token="[FILL]")
    change(model, "special_tokens_map.json", pad_token="[SEP]")
    said = r"tokenizer_config.json '\[FILL\]', special_tokens_map.json '\[SEP\]': they disagree"
    with pytest.raises(SpecError, match=said):
        pad_id(model)
    assert main(["export", str(model), "--out", str(tmp_path / "bundle")]) == 1
    assert "they disagree; correct these files" in capsys.readouterr().err
    change(model, "special_tokens_map.json", pad_token="[FILL]")
    assert pad_id(model) == FILL


def test_a_token_that_the_tokenizer_lacks_is_refused(model: Path) -> None:
    change(model, "tokenizer_config.json", pad_token="<gap>")
    with pytest.raises(SpecError, match="tokenizer.json has no '<gap>'; correct these files"):
        pad_id(model)


def test_the_id_of_the_configuration_counts_only_where_positions_depend_on_it(
    model: Path, tmp_path: Path
) -> None:
    """A multilingual BERT with the tokenizer of XLM-R says 0, as BERT does, and pads with 1."""
    change(model, "tokenizer_config.json", pad_token="[FILL]")
    assert pad_id(change(model, "config.json", pad_token_id=5)) == FILL
    roberta = make_family("roberta", tmp_path / "roberta")
    assert pad_id(roberta) == 1
    change(roberta, "config.json", pad_token_id=3)
    with pytest.raises(SpecError, match=r"pads with the id 1, .* pad_token_id 3, from which .*rob"):
        pad_id(roberta)
