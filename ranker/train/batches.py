"""Groups as tensors: tokenized once, batched by length, in an order that the seed decides."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranker.dataset.groups import Group
from ranker.encode import Encoder, document_text, pair_inputs
from ranker.errors import require
from ranker.model import tensors

__all__ = ["Batches", "EncodedGroup", "encode_groups", "plan"]

POOL = 16
"""Batches that are sorted by length together: enough to save padding, few enough to stay mixed."""


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """A group as token ids; `target` is what the loss takes: grades, or a teacher's scores."""

    query_ids: list[int]
    documents_ids: list[list[int]]
    target: tuple[float, ...]

    @property
    def length(self) -> int:
        """Tokens of its longest pair."""
        return len(self.query_ids) + max(len(ids) for ids in self.documents_ids)


def encode_groups(groups: Sequence[Group], encoder: Encoder) -> list[EncodedGroup]:
    """Token ids of all groups; each different text is tokenized once."""
    queries = list(dict.fromkeys(group.query for group in groups))
    query_ids = dict(zip(queries, encoder.queries_ids(queries), strict=True))
    texts = list(
        dict.fromkeys(document_text(d, encoder.spec) for group in groups for d in group.documents)
    )
    text_ids = dict(zip(texts, encoder.texts_ids(texts), strict=True))
    return [
        EncodedGroup(
            query_ids[group.query],
            [text_ids[document_text(document, encoder.spec)] for document in group.documents],
            group.relevance if group.teacher_scores is None else group.teacher_scores,
        )
        for group in groups
    ]


def plan(groups: Sequence[EncodedGroup], *, size: int, seed: int) -> list[list[EncodedGroup]]:
    """Batches of `size` groups of like length, shuffled."""
    draw = random.Random(seed)
    order = list(groups)
    draw.shuffle(order)
    batches = []
    for start in range(0, len(order), size * POOL):
        pool = sorted(order[start : start + size * POOL], key=lambda group: group.length)
        batches += [pool[at : at + size] for at in range(0, len(pool), size)]
    draw.shuffle(batches)
    return batches


class Batches:
    """A dataset whose items are whole batches, ready for the model and the loss.

    An item holds `chunks`, the model's inputs [pairs, positions] of pairs of like length;
    `order`, where each pair of the chunks belongs; and `target` and `mask`
    [groups, documents], whose True cells are the pairs in row order.

    Args:
        batches: groups of each step.
        encoder: the contract.
        chunk: pairs computed together.  The documents of a group differ in length, so a CPU,
            which gains nothing from size, saves the padding: 45 % of the positions of a step.
    """

    def __init__(
        self, batches: Sequence[Sequence[EncodedGroup]], encoder: Encoder, *, chunk: int
    ) -> None:
        self._batches = batches
        self._spec = encoder.spec
        self._chunk = chunk

    def __len__(self) -> int:
        """Number of batches, which is the number of steps."""
        return len(self._batches)

    def __getitem__(self, at: int) -> dict[str, Any]:
        """The batch of one step, on the CPU."""
        torch = require("torch", extra="train")
        batch = self._batches[at]
        documents = [ids for group in batch for ids in group.documents_ids]
        queries = [group.query_ids for group in batch for _ in group.documents_ids]
        width = max(len(group.target) for group in batch)
        target = np.zeros((len(batch), width), dtype=np.float32)
        mask = np.zeros((len(batch), width), dtype=bool)
        for row, group in enumerate(batch):
            target[row, : len(group.target)] = group.target
            mask[row, : len(group.target)] = True
        order = sorted(range(len(queries)), key=lambda n: len(queries[n]) + len(documents[n]))
        return {
            "chunks": [
                self._inputs(queries, documents, order[at : at + self._chunk])
                for at in range(0, len(order), self._chunk)
            ],
            "order": torch.tensor(order),
            "target": torch.from_numpy(target),
            "mask": torch.from_numpy(mask),
        }

    def _inputs(
        self, queries: list[list[int]], documents: list[list[int]], rows: list[int]
    ) -> dict[str, Any]:
        inputs = pair_inputs(self._spec, [queries[n] for n in rows], [documents[n] for n in rows])
        return tensors(inputs, self._spec, "cpu")
