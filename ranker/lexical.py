"""Text to terms, and BM25 over a corpus in memory, with Vespa's rule and Vespa's formula.

Useful for first-phase candidates in training and for hard negatives.  The embedded engine keeps
its own index on disk and shares `terms` and `bm25_weight` with this one.
"""

import functools
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import regex
import Stemmer

from ranker.errors import DataError
from ranker.records import Document

__all__ = ["B", "K1", "BM25Index", "bm25_weight", "contents", "idf", "terms"]

K1 = 1.2
B = 0.75

_TOKEN = regex.compile(r"[\p{L}\p{Mn}\p{Mc}\p{Nl}\p{Nd}\p{No}]+|\p{So}")
_ASCII_TOKEN = re.compile(r"[A-Za-z0-9]+")
"""The same rule for ASCII, where no sign is of category So; twice as fast."""

_ACCENT = regex.compile(r"\p{InCombiningDiacriticalMarks}")


def terms(text: str) -> list[str]:
    """Index terms of a text, in order.

    Vespa's simple tokenizer (`vespa-facts` §6): runs of letters, marks and digits; NFKC,
    lower case, accents dropped, stemmed.  Vespa stems English with KStem, this with Snowball's
    English stemmer.
    """
    if text.isascii():
        words: list[str] = _ASCII_TOKEN.findall(text.lower())
    else:
        # `regex` gives up the GIL for each call unless told not to: slow where threads compete.
        words = [_fold(word) for word in _TOKEN.findall(text, concurrent=False)]
    stems: list[str] = _stemmer().stemWords(words)
    return stems


def contents(document: Document) -> str:
    """The text of the schema's `contents` field: title, a blank, text."""
    return f"{document.title} {document.text}"


def idf(documents: int, frequency: int) -> float:
    """Inverse document frequency as in Vespa's `bm25_utils.cpp`: ln(1 + (N - n + .5)/(n + .5))."""
    return math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))


def bm25_weight(occurrences: float, length: float, average_length: float) -> float:
    """The part of BM25 that idf is multiplied with, as in Vespa's `bm25_feature.cpp`."""
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
        import bm25s  # here: it brings scipy, half a second that the engine has no use for

        self._index = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._index.index(rows, show_progress=False)

    def scores(self, query: str) -> npt.NDArray[np.float32]:
        """BM25 of every document [documents]; 0 where no term of the query occurs."""
        known = [term for term in terms(query) if term in self._index.vocab_dict]
        if not known:
            return np.zeros(len(self.doc_ids), dtype=np.float32)
        # bm25s leaves out the constant factor (k1 + 1) of Vespa's formula.
        return np.asarray(self._index.get_scores(known) * np.float32(K1 + 1), dtype=np.float32)

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """The `k` best documents with a score above 0, best first; ties in corpus order."""
        scores = self.scores(query)
        count = min(k, int(np.count_nonzero(scores)))
        if not count:
            return []
        floor = np.partition(scores, -count)[-count]
        candidates = np.flatnonzero(scores >= max(floor, np.finfo(np.float32).tiny))
        best = candidates[np.argsort(-scores[candidates], kind="stable")][:count]
        return [(self.doc_ids[row], float(scores[row])) for row in best]

    def search_all(self, queries: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        """`search` for many queries."""
        return [self.search(query, k) for query in queries]


@functools.cache
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


def _fold(word: str) -> str:
    lower = unicodedata.normalize("NFKC", word).lower()
    bare: str = _ACCENT.sub("", unicodedata.normalize("NFD", lower))
    return bare
