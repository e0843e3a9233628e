"""Copies among many texts: equal words, or nearly the same runs of three words.

Near-copies have a Jaccard index of at least 0.8 between their sets of word 3-grams (Broder, On
the resemblance and containment of documents, 1997). Candidates are found by MinHash in bands
(Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3) and then compared exactly;
with 16 bands of 5, a pair of index 0.8 is missed once in 600 times.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Copies", "copies", "normalised"]

JACCARD = 0.8
RUN = 3
BANDS, ROWS = 16, 5
BATCH = 2000
LEADERS = 5
"""Texts of one bucket are compared with so many families in it: templates make large buckets."""

Words = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Copies:
    """Groups of texts, each in the order of the texts.

    Attributes:
        equal: groups with the same words in the same order.
        families: groups of near-copies, equal ones among them.
    """

    equal: list[list[str]]
    families: list[list[str]]


def normalised(text: str) -> str:
    """The words of a text, in lower case and without punctuation, parted by blanks."""
    return " ".join(_WORD.findall(text.lower()))


def copies(texts: Iterable[tuple[str, str]]) -> Copies:
    """Find the copies among texts.

    Memory is about 300 bytes a text and what the texts' ids take.

    Args:
        texts: id and text, each id once; texts without a word are copies of nothing.
    """
    numbers: dict[str, int] = {}
    same: dict[bytes, list[str]] = defaultdict(list)
    leaders: list[str] = []
    lengths: list[int] = []
    words: list[Words] = []
    for text_id, text in texts:
        found = _WORD.findall(text.lower())
        row = np.array([numbers.setdefault(word, len(numbers)) for word in found], dtype=np.uint64)
        if not row.size:
            continue
        group = same[hashlib.blake2b(row.tobytes(), digest_size=16).digest()]
        group.append(text_id)
        if len(group) == 1 and row.size >= RUN:
            leaders.append(text_id)
            lengths.append(row.size)
            words.append(row.astype(np.uint32))
    equal = [group for group in same.values() if len(group) > 1]
    return Copies(equal, _families(leaders, words, {group[0]: group for group in equal}))


def _families(
    leaders: Sequence[str], words: Sequence[Words], equal: dict[str, list[str]]
) -> list[list[str]]:
    """Join near-copies; each leader stands for all texts equal to it."""
    parent = list(range(len(leaders)))
    for bucket in _buckets(words):
        met: list[int] = []
        for row in bucket:
            if _root(parent, row) in {_root(parent, other) for other in met}:
                continue
            match = next((it for it in met[:LEADERS] if _alike(words[it], words[row])), None)
            if match is None:
                met.append(row)
            else:
                parent[_root(parent, row)] = _root(parent, match)
    joined: dict[int, list[str]] = defaultdict(list)
    for row, leader in enumerate(leaders):
        joined[_root(parent, row)] += equal.get(leader, [leader])
    long_enough = set(leaders)
    short = [group for leader, group in equal.items() if leader not in long_enough]
    return [group for group in joined.values() if len(group) > 1] + short


def _alike(one: Words, other: Words) -> bool:
    first, second = np.unique(_hashes(one)), np.unique(_hashes(other))
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common >= JACCARD * (len(first) + len(second) - common)


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def _buckets(words: Sequence[Words]) -> Iterator[list[int]]:
    """Rows that share a band of their MinHash signatures, in order, one bucket after another."""
    bands = _bands(words)
    for band in range(BANDS):
        keys = bands[:, band]
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            if end - start > 1:
                yield order[start:end].tolist()


def _bands(words: Sequence[Words]) -> Words:
    """A hash of each band of each text's signature [texts, BANDS]."""
    generator = np.random.default_rng(0)
    factors = generator.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    bands = np.zeros((len(words), BANDS), dtype=np.uint64)
    for start in range(0, len(words), BATCH):
        batch = [_hashes(row) for row in words[start : start + BATCH]]
        starts = np.cumsum([0, *map(len, batch[:-1])])
        hashes = np.concatenate(batch)
        for number, factor in enumerate(factors):
            least = np.minimum.reduceat(_mixed(hashes * factor), starts)
            own = bands[start : start + BATCH, number // ROWS]
            own[:] = _mixed(own * np.uint64(31) + least)
    return bands


def _hashes(row: Words) -> Words:
    """One hash for every run of `RUN` words."""
    mixed = _mixed(row.astype(np.uint64) + np.uint64(1))
    total = np.zeros(len(row) - RUN + 1, dtype=np.uint64)
    for at in range(RUN):
        total = _mixed(total + mixed[at : at + len(total)])
    return total


def _mixed(values: Words) -> Words:
    """The finaliser of splitmix64: every bit of a value decides on every bit of its hash."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = values ^ (values >> np.uint64(31))
    return mixed
