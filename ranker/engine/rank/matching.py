"""The first phase: candidates from the index, then their exact BM25 with Vespa's formula.

tantivy rounds lengths to one byte and counts removed documents, so its score only selects
candidates.  They suffice when the exact score of the last document needed is at least what any
document below the candidates could reach; otherwise more candidates are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ranker.contract import vespa_names
from ranker.engine.query.tree import Node, Phrase, leaves, match
from ranker.engine.rank.timer import Timer
from ranker.engine.storage.index import Snapshot
from ranker.engine.storage.reader import RankedRow, Reader
from ranker.lexical.bm25 import bm25_weight, idf

__all__ = ["FirstPhase", "Matched", "first_phase", "sorted_rows"]

MOST_CANDIDATES = 5000
"""Most candidates to take; documents below them differ only by tantivy's rounding."""

SLACK = 1.001
"""Tolerance for tantivy's float32 sums."""

_STEP = 20_000


class Matched(NamedTuple):
    """A document that matches.

    Attributes:
        row: its row.
        contents, title: bm25(contents) and bm25(title).
        token_fingerprint: 0 where the document has none, that is, was fed without tokens.
    """

    row: int
    contents: float
    title: float
    token_fingerprint: int


@dataclass(frozen=True, slots=True)
class FirstPhase:
    """The best documents of the first phase, best first, and the number of all that match."""

    matched: list[Matched]
    total: int


def first_phase(
    tree: Node, snapshot: Snapshot, reader: Reader, *, needed: int, timer: Timer
) -> FirstPhase:
    """Return the `needed` best documents by bm25(contents).

    Args:
        tree: the query.
        snapshot: the index.
        reader: the documents.
        needed: number of documents that the later phases and the page need.
        timer: of the query.

    Raises:
        QueryError: code 12, the query has timed out.
    """
    weights = _Weights(tree, snapshot)
    # Some more than needed: tantivy's order is nearly, but not quite, the exact one.
    limit = needed + max(50, needed // 2)
    known: dict[int, Matched | None] = {}
    while True:
        timer.check()
        candidates, total = snapshot.search(tree, limit)
        rows = [row for _, row in candidates]
        known |= _score([row for row in rows if row not in known], tree, weights, reader, timer)
        best = [scored for row in rows if (scored := known.get(row)) is not None]
        best.sort(key=lambda scored: -scored.contents)  # ties stay in the index's order
        done = len(candidates) < limit or limit >= MOST_CANDIDATES
        best_below = 0.0 if done else candidates[-1][0] * weights.ratio * SLACK
        if done or (len(best) >= needed and best[needed - 1].contents >= best_below):
            return FirstPhase(best[:needed], total)
        limit *= 4


def sorted_rows(
    tree: Node,
    snapshot: Snapshot,
    reader: Reader,
    order: Sequence[tuple[str, bool]],
    *,
    page: slice,
    timer: Timer,
) -> FirstPhase:
    """Return the matches on a page of a result that is sorted by attributes."""
    weights = _Weights(tree, snapshot)
    candidates, total = snapshot.search(tree, max(snapshot.totals.documents, 1))
    keys: list[tuple[int, RankedRow]] = []
    for start in range(0, len(candidates), _STEP):
        timer.check()
        ranked = reader.ranked([row for _, row in candidates[start : start + _STEP]])
        keys += ranked.items()
    keys.sort()  # by row, which decides between equal values
    for name, descending in reversed(order):
        keys.sort(key=lambda item: _sort_key(item[1], name), reverse=descending)
    rows = [row for row, _ in keys[page]]
    scored = _score(rows, tree, weights, reader, timer)
    return FirstPhase(
        [document for row in rows if (document := scored.get(row)) is not None], total
    )


def _sort_key(row: RankedRow, name: str) -> tuple[bool, Any]:
    """Return a key that puts documents without a value first in ascending order."""
    value = row.attributes[name]
    if value is None:
        return False, 0
    return True, value.lower() if isinstance(value, str) else value


class _Weights:
    """Inverse document frequencies of the query's words, and the fields' average lengths.

    Attributes:
        average: field to average length, in terms.
        idf: word or phrase to its weight.
        ratio: the largest possible ratio of an exact score to tantivy's.
    """

    def __init__(self, tree: Node, snapshot: Snapshot) -> None:
        totals = snapshot.totals
        self.average = {
            vespa_names.CONTENTS: totals.contents_length / max(totals.documents, 1),
            vespa_names.TITLE: totals.title_length / max(totals.titles, 1),
        }
        self.idf: dict[Phrase, float] = {}
        self.ratio = 1.0
        for leaf in leaves(tree):
            counts = [snapshot.frequencies(leaf.field, term) for term in leaf.terms]
            live, counted = min(counts)
            self.idf[leaf] = idf(totals.documents, max(live, 1))
            # tantivy counts removed documents, also in the number of all documents.
            theirs = idf(max(totals.documents, counted), max(counted, 1))
            self.ratio = max(self.ratio, self.idf[leaf] / theirs)


def _score(
    rows: Sequence[int], tree: Node, weights: _Weights, reader: Reader, timer: Timer
) -> dict[int, Matched | None]:
    """Return exact scores, None for a document that does not match, or no longer does."""
    scored: dict[int, Matched | None] = dict.fromkeys(rows)
    for start in range(0, len(rows), 500):
        timer.check()
        for row, ranked in reader.ranked(rows[start : start + 500]).items():
            scored[row] = _matched(ranked, tree, weights)
    return scored


def _matched(row: RankedRow, tree: Node, weights: _Weights) -> Matched | None:
    counted = match(tree, row)
    if counted is None:
        return None
    scores = dict.fromkeys(row.lengths, 0.0)
    for leaf, occurrences in counted:
        length, average = row.lengths[leaf.field], weights.average[leaf.field]
        scores[leaf.field] += weights.idf[leaf] * bm25_weight(occurrences, length, average)
    return Matched(
        row.row,
        scores[vespa_names.CONTENTS],
        scores[vespa_names.TITLE],
        row.attributes[vespa_names.TOKEN_FINGERPRINT] or 0,
    )
