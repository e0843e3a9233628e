"""Batches as a stage makes them, for tests that train without one."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ranker.contract.encode import Encoder
from ranker.dataset.groups import TrainingGroup
from ranker.model.losses import grades
from ranker.train.batches import Batches
from ranker.train.token_store import TokenizedTexts, TokenStore


@contextlib.contextmanager
def batches_of(
    groups: Sequence[TrainingGroup], encoder: Encoder, folder: Path, **others: Any
) -> Iterator[Batches]:
    """An epoch of two groups a step, 12 pairs together, where the test says nothing else."""
    settings = {"size": 2, "seed": 0, "epochs": 1, "chunk": 12} | others
    with contextlib.closing(TokenizedTexts(folder, encoder)) as texts:
        store = TokenStore(texts, lambda group: grades(group, 1))
        yield Batches(lambda epoch: [groups], store, encoder.spec, **settings)
