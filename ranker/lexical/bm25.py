"""BM25 over a corpus in memory, with Vespa's formula.

Useful for first-phase candidates in training, for hard negatives and for linting.  The embedded
engine keeps its own index on disk and shares `terms` and `bm25_weight` with this one.
"""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranker.errors import DataError, require
from ranker.lexical.terms import terms
from ranker.records import Document

__all__ = ["B", "K1", "BM25Index", "FirstPhase", "bm25_weight", "contents", "idf"]

Scores = npt.NDArray[np.float32]

K1 = 1.2
B = 0.75


def contents(document: Document) -> str:
    """Return the text of the schema's `contents` field: title, space, text."""
    return f"{document.title} {document.text}"


def idf(documents: int, frequency: int) -> float:
    """Return the inverse document frequency as in Vespa's `bm25_utils.cpp`."""
    return math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))


def bm25_weight(occurrences: float, length: float, average_length: float) -> float:
    """Return the factor of BM25 next to idf, as in Vespa's `bm25_feature.cpp`."""
    norm = K1 * (1 - B + B * length / average_length)
    return occurrences * (K1 + 1) / (occurrences + norm)


class BM25Index:
    """BM25 over the `contents` of a fixed corpus, in memory.

    Scores are Vespa's `bm25(contents)` of the same terms, up to float32 rounding.

    Raises:
        DataError: the corpus is empty or holds no word.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self.doc_ids: list[str] = []
        rows: list[list[str]] = []
        for document in documents:
            self.doc_ids.append(document.doc_id)
            rows.append(terms(contents(document)))
        if not any(rows):
            raise DataError(f"cannot index a corpus of {len(rows)} documents without a single word")
        # Not at the top: it loads scipy, half a second that the engine does not need.
        bm25s = require("bm25s", extra="lexical")
        self._index = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._index.index(rows, show_progress=False)

    def scores(self, query: str) -> Scores:
        """Return the BM25 of every document [documents], 0 where no term of the query occurs."""
        known = [term for term in terms(query) if term in self._index.vocab_dict]
        if not known:
            return np.zeros(len(self.doc_ids), dtype=np.float32)
        # bm25s leaves out the constant factor (k1 + 1) of Vespa's formula.
        return np.asarray(self._index.get_scores(known) * np.float32(K1 + 1), dtype=np.float32)

    def frequency(self, term: str) -> int:
        """Return the number of documents that hold an index term."""
        return len(self._rows(term))

    def holding(self, index_terms: Iterable[str]) -> set[str]:
        """Return the documents that hold every one of some index terms, of at least one."""
        rows = functools.reduce(np.intersect1d, map(self._rows, index_terms))
        return {self.doc_ids[row] for row in rows.tolist()}

    def _rows(self, term: str) -> npt.NDArray[np.int32]:
        """Return the documents that hold a term, as bm25s keeps them: a column of its matrix."""
        column = self._index.vocab_dict.get(term)
        if column is None:
            return np.zeros(0, np.int32)
        matrix = self._index.scores
        start, end = matrix["indptr"][column], matrix["indptr"][column + 1]
        rows: npt.NDArray[np.int32] = matrix["indices"][start:end]
        return rows

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return the `k` best documents with a score above 0, best first; ties in corpus order."""
        scores = self.scores(query)
        return [(self.doc_ids[row], float(scores[row])) for row in _best_rows(scores, k)]


class FirstPhase:
    """BM25's best documents of each query, searched once however often they are asked for.

    Every epoch of a training asks for them, and so does every reranking of the same queries.  A
    hit takes 8 bytes.

    Args:
        index: BM25 over the corpus.
        depth: least depth of a search, so that a deeper question does not search again.
    """

    def __init__(self, index: BM25Index, *, depth: int = 0) -> None:
        self.index = index
        self._depth = depth
        self._hits: dict[str, _Hits] = {}
        self._deeper: dict[str, dict[int, float]] = {}
        self._dense: tuple[str | None, Scores] = (None, np.zeros(0, np.float32))

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return the same as `BM25Index.search`."""
        hits = self._hits.get(query)
        if hits is None or hits.depth < k:
            hits = self._hits[query] = self._search(query, max(k, self._depth))
        rows, scores = hits.rows[:k].tolist(), hits.scores[:k].tolist()
        return [(self.index.doc_ids[row], score) for row, score in zip(rows, scores, strict=True)]

    def score(self, query: str, doc_id: str) -> float:
        """Return the BM25 of any document of the corpus."""
        row = self._rows[doc_id]
        hits = self._hits.get(query)
        if hits is not None:
            place = np.flatnonzero(hits.rows == row)
            if place.size:
                return float(hits.scores[place[0]])
            if len(hits.rows) < hits.depth:
                return 0.0
        known = self._deeper.setdefault(query, {})
        if row not in known:
            if self._dense[0] != query:
                self._dense = query, self.index.scores(query)
            known[row] = float(self._dense[1][row])
        return known[row]

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {doc_id: row for row, doc_id in enumerate(self.index.doc_ids)}

    def _search(self, query: str, depth: int) -> "_Hits":
        scores = self.index.scores(query)
        rows = _best_rows(scores, depth)
        return _Hits(depth, rows.astype(np.int32), scores[rows])


class _Hits(NamedTuple):
    depth: int
    rows: npt.NDArray[np.int32]
    scores: Scores


def _best_rows(scores: Scores, k: int) -> npt.NDArray[np.intp]:
    """Return the rows of the `k` highest scores above 0, highest first; ties in order of rows."""
    count = min(k, int(np.count_nonzero(scores)))
    if not count:
        return np.zeros(0, np.intp)
    floor = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero(scores >= max(floor, np.finfo(np.float32).tiny))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]
