"""The first phase: candidates from the index, then their exact BM25 with Vespa's formula.

tantivy rounds lengths to one byte and counts removed documents, so its score only chooses
candidates.  They are enough when the last one that is needed scores, exactly, at least as much as
any document below the candidates could; otherwise more are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ranker.contract import vespa_names
from ranker.engine.query.tree import Node, Phrase, View, leaves, match
from ranker.engine.rank.timer import Timer
from ranker.engine.storage.index import Snapshot
from ranker.engine.storage.reader import RankedRow, Reader
from ranker.lexical.bm25 import bm25_weight, idf

__all__ = ["FirstPhase", "Matched", "first_phase", "sorted_rows"]

MOST_CANDIDATES = 5000
"""Where so many candidates do not settle the order, the rest differ by tantivy's rounding only."""

SLACK = 1.001
"""Room for tantivy's float32 sums."""

_STEP = 20_000


@dataclass(frozen=True, slots=True)
class Matched:
    """A document that matches.

    Attributes:
        row: its row.
        contents, title: bm25(contents) and bm25(title).
        token_fingerprint: 0 where the document has none, so where it was fed without tokens.
    """

    row: int
    contents: float
    title: float
    token_fingerprint: int


@dataclass(frozen=True, slots=True)
class FirstPhase:
    """The best documents of the first phase, best first, and how many match in all."""

    matched: list[Matched]
    total: int


def first_phase(
    tree: Node, snapshot: Snapshot, reader: Reader, *, needed: int, timer: Timer
) -> FirstPhase:
    """The `needed` best documents by bm25(contents).

    Args:
        tree: the query.
        snapshot: the index.
        reader: the documents.
        needed: how many documents the later phases and the page need.
        timer: of the query.

    Raises:
        QueryError: code 12, the time is over.
    """
    weights = _Weights(tree, snapshot)
    limit = needed + max(50, needed // 2)
    known: dict[int, Matched | None] = {}
    while True:
        timer.check()
        candidates, total = snapshot.search(tree, limit)
        rows = [row for _, row in candidates]
        known |= _score([row for row in rows if row not in known], tree, weights, reader, timer)
        found = [scored for row in rows if (scored := known.get(row)) is not None]
        found.sort(key=lambda scored: -scored.contents)  # ties stay in the index's order
        done = len(candidates) < limit or limit >= MOST_CANDIDATES
        if done or _settled(found, needed, candidates[-1][0] * weights.ratio * SLACK):
            return FirstPhase(found[:needed], total)
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
    """The matches on a page of a result that is sorted by attributes."""
    weights = _Weights(tree, snapshot)
    candidates, total = snapshot.search(tree, max(snapshot.totals.documents, 1))
    keys: list[tuple[int, RankedRow]] = []
    for at in range(0, len(candidates), _STEP):
        timer.check()
        ranked = reader.ranked([row for _, row in candidates[at : at + _STEP]])
        keys += ranked.items()
    keys.sort()
    for name, descending in reversed(order):
        keys.sort(key=lambda item: _sort_key(item[1], name), reverse=descending)
    rows = [row for row, _ in keys[page]]
    scored = _score(rows, tree, weights, reader, timer)
    return FirstPhase([found for row in rows if (found := scored.get(row)) is not None], total)


def _sort_key(row: RankedRow, name: str) -> tuple[bool, Any]:
    """Return a key that puts documents without a value first in ascending order."""
    value = row.attributes[name]
    if value is None:
        return False, 0
    return True, value.lower() if isinstance(value, str) else value


def _settled(found: list[Matched], needed: int, best_below: float) -> bool:
    return len(found) >= needed and found[needed - 1].contents >= best_below


class _Weights:
    """Inverse document frequencies of the query's words, and the fields' average lengths.

    Attributes:
        average: field to average length, in terms.
        idf: word or phrase to its weight.
        ratio: the most that an exact score can be above tantivy's.
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
            # tantivy counts removed documents, in the number of all documents too.
            theirs = idf(max(totals.documents, counted), max(counted, 1))
            self.ratio = max(self.ratio, self.idf[leaf] / theirs)


def _score(
    rows: Sequence[int], tree: Node, weights: _Weights, reader: Reader, timer: Timer
) -> dict[int, Matched | None]:
    """Exact scores; None where the document does not match (any more)."""
    found: dict[int, Matched | None] = dict.fromkeys(rows)
    for at in range(0, len(rows), 500):
        timer.check()
        for row, ranked in reader.ranked(rows[at : at + 500]).items():
            found[row] = _matched(ranked, tree, weights)
    return found


def _matched(row: RankedRow, tree: Node, weights: _Weights) -> Matched | None:
    texts = {
        vespa_names.TITLE: row.title_terms,
        vespa_names.CONTENTS: row.title_terms + row.text_terms,
    }
    view = View(texts, row.attributes)
    counted = match(tree, view)
    if counted is None:
        return None
    lengths = {vespa_names.CONTENTS: row.contents_length, vespa_names.TITLE: row.title_length}
    scores = dict.fromkeys(lengths, 0.0)
    for leaf, occurrences in counted:
        length, average = lengths[leaf.field], weights.average[leaf.field]
        scores[leaf.field] += weights.idf[leaf] * bm25_weight(occurrences, length, average)
    return Matched(
        row.row,
        scores[vespa_names.CONTENTS],
        scores[vespa_names.TITLE],
        row.attributes[vespa_names.TOKEN_FINGERPRINT] or 0,
    )
