"""Checkpoints without a training."""

from pathlib import Path

from ranker.artifacts.bundle import Checkpoint, write_hashes
from ranker.files import write_json, write_text
from ranker.model.base import load_weights, open_base


def checkpoint_of(model: Path, folder: Path) -> Checkpoint:
    """A checkpoint as training leaves it, of an untrained model."""
    base = open_base(str(model))
    spec = base.spec(query_slots=32, document_slots=96)
    load_weights(model).save_pretrained(folder)
    write_text(folder / "tokenizer.json", base.tokenizer_json)
    write_json(folder / "spec.json", spec.to_dict())
    report = {
        "blend_weight": 2.0,
        "recommended_profile": "blend",
        "arguments": {"base": str(model)},
    }
    write_json(folder / Checkpoint.MARKER, report)
    write_hashes(folder)
    return Checkpoint.open(folder)
