"""BM25 over a corpus in memory, with Vespa's formula.

Useful for first-phase candidates in training, for hard negatives and for linting.  The embedded
engine keeps its own index on disk and shares `terms` and `bm25_weight` with this one.
"""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ranker.errors import DataError
from ranker.lexical.terms import terms
from ranker.records import Document

__all__ = ["B", "K1", "BM25Index", "bm25_weight", "contents", "idf"]

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
        import bm25s  # not at the top: it loads scipy, half a second that the engine does not need

        self._index = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._index.index(rows, show_progress=False)

    def scores(self, query: str) -> npt.NDArray[np.float32]:
        """Return the BM25 of every document [documents], 0 where no term of the query occurs."""
        known = [term for term in terms(query) if term in self._index.vocab_dict]
        if not known:
            return np.zeros(len(self.doc_ids), dtype=np.float32)
        # bm25s leaves out the constant factor (k1 + 1) of Vespa's formula.
        return np.asarray(self._index.get_scores(known) * np.float32(K1 + 1), dtype=np.float32)

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return the `k` best documents with a score above 0, best first; ties in corpus order."""
        scores = self.scores(query)
        count = min(k, int(np.count_nonzero(scores)))
        if not count:
            return []
        floor = np.partition(scores, -count)[-count]
        candidates = np.flatnonzero(scores >= max(floor, np.finfo(np.float32).tiny))
        best = candidates[np.argsort(-scores[candidates], kind="stable")][:count]
        return [(self.doc_ids[row], float(scores[row])) for row in best]
