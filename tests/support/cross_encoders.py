"""Existing cross-encoders: texts to score, changed files, scores as they are served."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from families import TEXTS

from ranker.artifacts.bundle import Bundle
from ranker.export.score import Scorer
from ranker.files import write_json

PAIRS = [(" ".join(TEXTS[at].split()[:2]), TEXTS[(at + 1) % 5]) for at in range(5)]
PAIRS += [(query, PAIRS[0][1]) for query, _ in PAIRS]


def change(folder: Path, name: str = "config.json", **values: Any) -> Path:
    path = folder / name
    before = json.loads(path.read_text()) if path.is_file() else {}
    write_json(path, {**before, **values})
    return folder


def served(bundle: Bundle, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Logits as the embedded engine computes them."""
    encoder, scorer = bundle.encoder(), Scorer(bundle.model, bundle.spec)
    return np.array(
        [scorer.logits(encoder.query_ids(q), encoder.texts_ids([d]))[0] for q, d in pairs]
    )
