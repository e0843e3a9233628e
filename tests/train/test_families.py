"""Encoders without a head, of every family, are trained, exported and read by their library."""

from pathlib import Path

import numpy as np
import pytest
import transformers
from cross_encoders import PAIRS, served
from families import headed, make_family
from sentence_transformers import CrossEncoder
from small_data import small_dataset

from ranker.export.to_onnx import export
from ranker.model.interchange import TOLERANCE
from ranker.train import TrainArguments, train


def encoder_of(family: str, tmp_path: Path) -> Path:
    """The encoder alone, as it is published before anybody trains a head."""
    other = family in {"mpnet", "distilbert"}
    folder = headed(family, tmp_path) if other else make_family(family, tmp_path / family)
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2", "mpnet", "distilbert"])
def test_a_plain_encoder_is_a_base(family: str, tmp_path: Path) -> None:
    base = encoder_of(family, tmp_path)
    arguments = TrainArguments(base=str(base), epochs=1, batch_size=2, negatives=3, held_out=0.3)
    checkpoint = train(small_dataset(tmp_path), tmp_path / "checkpoint", arguments=arguments)
    (stage,) = checkpoint.training["stages"]
    assert stage["steps"] == 8
    bundle = export(checkpoint, tmp_path / "bundle")
    theirs = CrossEncoder(str(checkpoint.path), device="cpu").predict(PAIRS)
    assert np.abs(served(bundle, PAIRS) - theirs).max() < TOLERANCE
    assert len(set(np.round(theirs, 5))) > 5
