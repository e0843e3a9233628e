"""Batches by length, in an order that the seed decides, created epoch by epoch."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.contract.encode import pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.dataset.groups import TrainingGroup, count_negatives
from ranker.errors import require
from ranker.model.base import tensors
from ranker.train.token_store import EncodedGroup, TokenStore

__all__ = ["Batches", "inputs_of", "plan"]

POOL = 16
"""Batches that are sorted by length together: enough to save padding, few enough to stay mixed."""

GroupsOf = Callable[[int], Iterable[Sequence[TrainingGroup]]]
"""The groups of an epoch, from 0, in chunks; called once an epoch: for the first one at once, for
the others when their first step is due."""


def plan(lengths: npt.NDArray[np.int32], *, size: int, seed: int) -> list[npt.NDArray[np.int32]]:
    """Return the numbers of groups of similar length, `size` to a batch, shuffled."""
    sampler = random.Random(seed)
    order = list(range(len(lengths)))
    sampler.shuffle(order)
    batches = []
    for start in range(0, len(order), size * POOL):
        pool = sorted(order[start : start + size * POOL], key=lengths.__getitem__)
        batches += [np.array(pool[at : at + size], np.int32) for at in range(0, len(pool), size)]
    sampler.shuffle(batches)
    return batches


class Batches:
    """A dataset whose items are ready for the model and the loss: a step, or a part of one.

    Args:
        groups_of: the groups of an epoch, the same number in each.
        store: holds those of one epoch at a time.
        spec: the contract.
        size: groups in a step.
        seed: seed of the order.
        epochs: number of epochs; None for as many as `steps` take.
        steps: maximum number of steps.
        chunk: pairs computed together.  The documents of a group differ in length, so a CPU,
            which gains nothing from size, saves the padding: 45 % of the positions of a step.
        parts: items that make up a step, computed one after another.
        share: number of this process's share of every part, from 0, and the number of shares.
    """

    def __init__(
        self,
        groups_of: GroupsOf,
        store: TokenStore,
        spec: TokenSpec,
        *,
        size: int,
        seed: int,
        epochs: int | None,
        steps: int | None = None,
        chunk: int,
        parts: int = 1,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._groups_of, self._store, self._spec = groups_of, store, spec
        self._size, self._seed, self._chunk = size, seed, chunk
        self._parts, self._share = parts, share
        self._counts: list[dict[str, int]] = []
        self._turn_to(0)
        self.per_epoch = len(self._plan)
        limits = [epochs and epochs * self.per_epoch, steps]
        self.steps = min(limit for limit in limits if limit is not None)

    def __len__(self) -> int:
        """Return the number of items."""
        return self.steps * self._parts

    def __getitem__(self, at: int) -> dict[str, Any]:
        """Return an item, on the CPU.

        It holds `chunks`, the model's inputs [pairs, positions] of pairs of similar length;
        `order`, where each pair of the chunks belongs; `target` and `mask` [groups, documents],
        whose True cells are the pairs in row order; and `weight`, by which the mean loss of the
        item is multiplied so that the mean over a step's items is the step's mean over its groups.
        """
        step, part = divmod(at, self._parts)
        epoch, within = divmod(step, self.per_epoch)
        self._turn_to(epoch)
        batch = self._plan[within]
        place, places = part * self._share[1] + self._share[0], self._parts * self._share[1]
        own = batch[place::places]
        weight = len(own) * places / len(batch)
        # Fewer groups than places: a group that does not count, so that all processes keep step.
        numbers = own if len(own) else batch[:1]
        item = inputs_of([self._store[n] for n in numbers], self._spec, chunk=self._chunk)
        return {**item, "weight": weight}

    def documents_by_source(self, steps: int) -> dict[str, int]:
        """Return the number of documents of each source in the epochs that these steps touch."""
        epochs = math.ceil(steps / self.per_epoch)
        if epochs:
            self._turn_to(epochs - 1)  # a stage that was resumed at its end has not made them
        total: Counter[str] = Counter()
        for counts in self._counts[:epochs]:
            total.update(counts)
        return dict(sorted(total.items()))

    def _turn_to(self, epoch: int) -> None:
        while len(self._counts) <= epoch:
            turn = len(self._counts)
            counts: Counter[str] = Counter()
            self._store.fill(_counted(self._groups_of(turn), counts))
            self._counts.append(counts)
            self._plan = plan(self._store.lengths(), size=self._size, seed=self._seed + turn)


def inputs_of(batch: Sequence[EncodedGroup], spec: TokenSpec, *, chunk: int) -> dict[str, Any]:
    """Return `chunks`, `order`, `target` and `mask` of an item of `Batches`."""
    torch = require("torch", extra="train")
    documents = [ids for group in batch for ids in group.documents_ids]
    queries = [group.query_ids for group in batch for _ in group.documents_ids]
    width = max(len(group.target) for group in batch)
    target = np.zeros((len(batch), width), dtype=np.float32)
    mask = np.zeros((len(batch), width), dtype=bool)
    for row, group in enumerate(batch):
        target[row, : len(group.target)] = group.target
        mask[row, : len(group.target)] = True
    order = sorted(range(len(queries)), key=lambda n: len(queries[n]) + len(documents[n]))
    together = [order[at : at + chunk] for at in range(0, len(order), chunk)]
    return {
        "chunks": [
            tensors(
                pair_inputs(spec, [queries[n] for n in rows], [documents[n] for n in rows]),
                spec,
                "cpu",
            )
            for rows in together
        ],
        "order": torch.tensor(order),
        "target": torch.from_numpy(target),
        "mask": torch.from_numpy(mask),
    }


def _counted(
    chunks: Iterable[Sequence[TrainingGroup]], counts: Counter[str]
) -> Iterator[Sequence[TrainingGroup]]:
    for groups in chunks:
        counts.update(count_negatives(groups))
        yield groups
