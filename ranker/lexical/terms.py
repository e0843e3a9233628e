"""Text to terms, and BM25 over a corpus in memory, with Vespa's rule and Vespa's formula.

Useful for first-phase candidates in training and for hard negatives.  The embedded engine keeps
its own index on disk and shares `terms` and `bm25_weight` with this one.

The terms are those of Vespa's default linguistics for English (`OpenNlpTokenizer`, stemming
`best`), compared with Vespa's own code in `tests/lexical/test_lexical.py`.  What still differs:
    - characters that Unicode got after version 13 (2020) are terms here; a Vespa that runs on
      Java 17 takes them for separators.  All others were compared one by one;
    - a capital sigma beside digits or another script may become the other small sigma;
    - a blank inside a term, which some Arabic presentation forms have, is written `_`.
"""

import functools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import regex

from ranker.errors import DataError, require
from ranker.records import Document

__all__ = ["B", "K1", "BM25Index", "bm25_weight", "contents", "idf", "terms"]

K1 = 1.2
B = 0.75

_TOKEN = regex.compile(r"[\p{L}\p{Mn}\p{Mc}\p{Nl}\p{Nd}\p{No}]+|\p{So}")
_ASCII_TOKEN = re.compile(r"[A-Za-z0-9]+")
"""The same rule for ASCII, where no sign is of category So; twice as fast."""

_ACCENT = regex.compile(r"\p{InCombiningDiacriticalMarks}")

_STEMMED = re.compile(r"[a-z]{3,49}")
"""Words that Vespa stems; all others stay as they are."""

_LONGEST_STEMMED = 24
"""Letters of the longest word that the library stems."""

_MOST_KNOWN = 200_000
"""Words whose terms are kept in memory."""


def terms(text: str) -> list[str]:
    """Index terms of a text, in order.

    Vespa's tokenizer (`vespa-facts` §6): runs of letters, marks and digits, and single symbols;
    each in NFKC, lower case, without accents, and stemmed by KStem where it is plain letters.

    Raises:
        MissingExtra: the stemmer is not installed.
    """
    if text.isascii():
        return list(map(_known.__getitem__, _ASCII_TOKEN.findall(text.lower())))
    # `regex` gives up the GIL for each call unless told not to: slow where threads compete.
    words = _TOKEN.findall(text, concurrent=False)
    return [term for term in map(_known.__getitem__, words) if term]


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


def _term(word: str) -> str:
    """The index term of a word; empty where nothing but accents is in it."""
    lower = unicodedata.normalize("NFKC", word).lower()
    bare: str = _ACCENT.sub("", unicodedata.normalize("NFD", lower))
    if not _STEMMED.fullmatch(bare):
        return bare.strip(" ") and bare.replace(" ", "_")
    return _OTHER_STEMS.get(bare) or _kstem(bare)


def _kstem(word: str) -> str:
    """Stem a word of 3 to 49 letters."""
    if len(word) <= _LONGEST_STEMMED:
        return _library()(word)
    # Only endings matter in a word that no dictionary has, and whether it begins with `un`.
    return word[:-20] + _library()(word[:2] + word[-20:])[2:]


class _Known(dict[str, str]):
    """Word to term, made when it is first asked for: a text's words are mostly known ones."""

    def __missing__(self, word: str) -> str:
        if len(self) >= _MOST_KNOWN:
            self.clear()
        term = self[word] = _term(word)
        return term


_known = _Known()


@functools.cache
def _library() -> Callable[[str], str]:
    """KStem as the Lemur toolkit has it in C++; Vespa's is Java code after the same original."""
    stem: Callable[[str], str] = require("krovetzstemmer", extra="engine").Stemmer().stem
    return stem


_OTHER_STEMS = dict(
    pair.split(":")
    for pair in """
    abbas:abba activism:activ agribusiness:agribusy agribusinesses:agribusinesse
    appendices:appendice arbutus:arbutu babysitting:babysitt bal:bal bals:bal barflies:barf
    barfly:barf basal:base basally:base bater:bat batwing:batw batwings:batw bedspring:bedspr
    bedsprings:bedspr belying:belye belyingly:belying bookshelves:bookshelve bootstrapped:bootstrapp
    bootstrapping:bootstrapp boric:bore botfly:botf bowstring:bowstr bowstringed:bowstringe
    bowstrings:bowstr cation:cat cationic:cationic cations:cat centric:centre centrical:centre
    centricality:centre centrically:centre centricalness:centre centricity:centre clonic:clone
    clonicity:clone crises:crise cryptanalysis:cryptanalysi cursor:curse cursores:cursore
    cursorial:cursorial cursors:curse daybed:daybe daybeds:daybe deaconess:deaco
    deaconesses:deaconesse defocus:defocu defocused:defocuse defocusing:defocuse dwarves:dwarve
    eerily:eeri fiance:fie fiancees:fiancee fiances:fie flatbed:flatbe flatbeds:flatbe formic:form
    formication:formication formicative:formicative formics:form gator:gat gators:gat
    grizzlies:grizzle grizzly:grizzle hal:hal hally:hal hals:hal housewives:housewive jowly:jow
    kelly:kel kellys:kel lacewing:lacewe lacewings:lacewe later:late latered:latere
    laterization:laterize laters:late lioness:lio lionesses:lionesse mal:mal mally:mal mals:mal
    midwives:midwive oases:oase parentheses:parenthese pupal:pup ral:ral rals:ral sal:sal sals:sal
    sawflies:sawf sawfly:sawf scarves:scarve shoofly:shoof synopses:synopse syntheses:synthese
    taxied:taxy testes:test theses:these thieves:thieve vortices:vortice weber:web webers:web
    wharves:wharve wolves:wolve yourselves:yourselve
    """.split()
)
"""Words that Vespa stems in another way than the library, whose dictionary has some words more:
all that were found among 1.2 million, which are those of English word lists and of the judged
collections, and Vespa's head words with every ending (8.700.24)."""
