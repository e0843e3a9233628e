"""Near-duplicate texts: sets of features with a Jaccard index of at least 0.8.

The features of a query are its index terms, those of a document its runs of three words (Broder,
On the resemblance and containment of documents, 1997).  Two sets that similar share one of their
rarest |s| - ceil(0.8 |s|) + 1 features (prefix filtering; Chaudhuri, Ganti and Kaushik, A primitive
operator for similarity joins in data cleaning, 2006), so only sets that do are compared.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "Copies",
    "Features",
    "alike",
    "document_copies",
    "document_features",
    "near_copies",
    "normalized",
    "query_families",
]

RUN = 3
MOST_COMPARED = 10
"""Documents that one document is compared with for a feature: templates share many features."""
_MOST_COUNTER_BITS = 24

Features = frozenset[int]
Hashes = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+")


class Copies(NamedTuple):
    """Groups of documents, each in the order of the documents.

    Attributes:
        equal: groups with the same words in the same order.
        families: groups of near-duplicates, equal ones among them.
    """

    equal: list[list[str]]
    families: list[list[str]]


def normalized(text: str) -> str:
    """Return the words of a text, in lower case and without punctuation, separated by spaces."""
    return " ".join(_WORD.findall(text.lower()))


def query_families(texts: Mapping[str, str]) -> list[list[str]]:
    """Return the ids of texts in groups of near-duplicates, sorted; a lone text is a group as well.

    Two texts are near-duplicates if their index terms are the same set, or their sets have a
    Jaccard index of at least 0.8; groups are what such pairs connect.
    """
    features = _TermFeatures()
    equal: dict[Features, list[str]] = defaultdict(list)
    for text_id in sorted(texts):
        equal[features(texts[text_id])].append(text_id)
    sets, ids = list(equal), list(equal.values())
    families = _connected(len(sets), sets.__getitem__)
    return sorted(sorted(id_ for row in rows for id_ in ids[row]) for rows in families)


def near_copies(texts: Collection[str], originals: Collection[str]) -> set[str]:
    """Return those of the texts that are near-duplicates of an original, as queries are."""
    features = _TermFeatures()
    wanted = dict.fromkeys(map(features, originals))
    features_of = {text: features(text) for text in texts}
    sets = list({**wanted, **dict.fromkeys(features_of.values())})
    copies = set(wanted)
    for bucket in _buckets(len(sets), sets.__getitem__):
        own = [sets[row] for row in bucket if row < len(wanted)]
        for other in {sets[row] for row in bucket} - copies:
            if any(alike(original, other) for original in own):
                copies.add(other)
    return {text for text, own in features_of.items() if own in copies}


def document_copies(texts: Iterable[tuple[str, str]]) -> Copies:
    """Find the copies among documents.

    Memory is about 4 bytes a word, and 300 bytes a document and what its id takes.

    Args:
        texts: id and text, each id once; texts without a word are copies of nothing.
    """
    numbers: dict[str, int] = {}
    same: dict[bytes, list[str]] = defaultdict(list)
    leaders: list[str] = []
    words: list[npt.NDArray[np.uint32]] = []
    for text_id, text in texts:
        own = [numbers.setdefault(word, len(numbers)) for word in _WORD.findall(text.lower())]
        if not own:
            continue
        row = np.array(own, dtype=np.uint32)
        group = same[hashlib.blake2b(row.tobytes(), digest_size=16).digest()]
        group.append(text_id)
        if len(group) == 1 and len(own) >= RUN:
            leaders.append(text_id)
            words.append(row)
    equal = {group[0]: group for group in same.values() if len(group) > 1}
    connected = _connected(len(words), lambda row: _runs(words[row]), most=MOST_COMPARED)
    families = [
        [id_ for row in rows for id_ in equal.get(leaders[row], [leaders[row]])]
        for rows in connected
    ]
    long_enough = set(leaders)
    short = [group for leader, group in equal.items() if leader not in long_enough]
    return Copies(list(equal.values()), [group for group in families if len(group) > 1] + short)


def document_features(text: str) -> Features:
    """Return what `alike` compares of a document; the same only within a process.

    A text of fewer than three words is alike only to one of the same words.
    """
    words = _WORD.findall(text.lower())
    if len(words) < RUN:
        return frozenset([hash(tuple(words))])
    return _runs(np.array([hash(word) & 0xFFFFFFFF for word in words], dtype=np.uint32))


class _TermFeatures:
    """The index terms of texts, numbered in order of appearance."""

    def __init__(self) -> None:
        # Not at the top: it loads slowly, and only splitting needs it.
        from ranker.lexical.terms import terms

        self._terms = terms
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> Features:
        numbers = self._numbers
        return frozenset(numbers.setdefault(term, len(numbers)) for term in self._terms(text))


def _connected(
    count: int, features: Callable[[int], Features], *, most: int | None = None
) -> list[list[int]]:
    """Return the rows in groups that near-duplicates connect, a row alone if it has none.

    Args:
        count: number of rows.
        features: the features of a row.
        most: rows that a row is compared with for each feature; None to find every pair.
    """
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for bucket in _buckets(count, features):
        if most is not None:  # a row of each group that is known is enough
            bucket = list({root(row): row for row in reversed(bucket)}.values())[::-1]
        if len(bucket) < 2:
            continue
        sets = {row: features(row) for row in bucket}
        for place, row in enumerate(bucket):
            for other in bucket[: place if most is None else min(place, most)]:
                if root(row) != root(other) and alike(sets[row], sets[other]):
                    parent[root(row)] = root(other)
    groups: dict[int, list[int]] = defaultdict(list)
    for row in range(count):
        groups[root(row)].append(row)
    return list(groups.values())


def _buckets(count: int, features: Callable[[int], Features]) -> Iterator[list[int]]:
    """Yield the rows that share one of their rarest features, in order, for every such feature."""
    # Counted by their last bits: any order of features will do that is the same for all rows.
    counters = 1 << min((64 * count).bit_length(), _MOST_COUNTER_BITS)
    frequency = np.zeros(counters, np.uint32)
    last_bits = np.uint64(counters - 1)
    for row in range(count):
        frequency[_array(features(row)) & last_bits] += np.uint32(1)
    rarest = [np.zeros(0, np.uint64)]
    for row in range(count):
        own = _array(features(row))
        kept = len(own) - -(-4 * len(own) // 5) + 1
        rarest.append(own[np.lexsort((own, frequency[own & last_bits]))[:kept]])
    rows = np.repeat(np.arange(count), [len(own) for own in rarest[1:]])
    keys = np.concatenate(rarest)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(keys[order]) != 0]) if len(keys) else keys
    ends = np.append(starts[1:], len(keys))
    shared = ends - starts > 1
    for start, end in zip(starts[shared], ends[shared], strict=True):
        yield rows[order[start:end]].tolist()


def _array(features: Features) -> Hashes:
    return np.fromiter(features, np.uint64, len(features))


def alike(features: Features, other: Features) -> bool:
    """Return whether two sets of features have a Jaccard index of at least 0.8."""
    shorter, longer = sorted((len(features), len(other)))
    if 5 * shorter < 4 * longer:
        return False
    common = len(features & other)
    return 5 * common >= 4 * (shorter + longer - common)


def _runs(words: npt.NDArray[np.uint32]) -> Features:
    """Return a hash of every run of `RUN` words."""
    mixed = _mixed(words.astype(np.uint64) + np.uint64(1))
    total = np.zeros(len(words) - RUN + 1, dtype=np.uint64)
    for start in range(RUN):
        total = _mixed(total + mixed[start : start + len(total)])
    return frozenset(total.tolist())


def _mixed(values: Hashes) -> Hashes:
    """Hash numbers by the finalizer of splitmix64: every bit of a value changes all bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed
