"""Text to index terms, by Vespa's own rule.

The terms are those of Vespa's default linguistics for English (`OpenNlpTokenizer`, stemming
`best`), compared with Vespa's own code in `tests/lexical/test_lexical.py`.  Known differences:
    - characters that Unicode added after version 13 (2020) are terms here; a Vespa that runs on
      Java 17 takes them for separators.  All others were compared one by one;
    - a capital sigma next to digits or another script may become the other small sigma;
    - a space inside a term, which some Arabic presentation forms have, is written `_`.
"""

import functools
import re
import unicodedata
from collections.abc import Callable

from ranker.errors import require

__all__ = ["terms"]

regex = require("regex", extra="lexical")

_TOKEN = regex.compile(r"[\p{L}\p{Mn}\p{Mc}\p{Nl}\p{Nd}\p{No}]+|\p{So}")
_ASCII_TOKEN = re.compile(r"[A-Za-z0-9]+")
"""The same rule for ASCII, where no character is of category So; twice as fast."""

_ACCENT = regex.compile(r"\p{InCombiningDiacriticalMarks}")

_STEMMED = re.compile(r"[a-z]{3,49}")
"""Words that Vespa stems; all others stay as they are."""

_LONGEST_STEMMED = 24
"""Letters of the longest word that the library stems."""

_MOST_KNOWN = 200_000
"""Words whose terms are kept in memory."""


def terms(text: str) -> list[str]:
    """Return the index terms of a text, in order.

    A term is a run of letters, marks and digits, or a single symbol, in NFKC, in lower case,
    without accents, and stemmed by KStem where it is plain letters: the rule of Vespa's tokenizer
    (https://docs.vespa.ai/en/linguistics.html).

    Raises:
        MissingExtra: the stemmer is not installed.
    """
    if text.isascii():
        return list(map(_known.__getitem__, _ASCII_TOKEN.findall(text.lower())))
    # `regex` gives up the GIL for each call unless told not to: slow where threads compete.
    words = _TOKEN.findall(text, concurrent=False)
    return [term for term in map(_known.__getitem__, words) if term]


def _term(word: str) -> str:
    """Return the index term of a word, empty if the word holds nothing but accents."""
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
    """Terms by word, each computed on first use: most words of a text were seen before."""

    def __missing__(self, word: str) -> str:
        if len(self) >= _MOST_KNOWN:
            self.clear()
        term = self[word] = _term(word)
        return term


_known = _Known()


@functools.cache
def _library() -> Callable[[str], str]:
    """Return the Lemur toolkit's KStem in C++; Vespa's Java code follows the same original."""
    stem: Callable[[str], str] = require("krovetzstemmer", extra="lexical").Stemmer().stem
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
"""Words that Vespa (8.700.24) stems differently from the library, whose dictionary is larger.

All that were found among 1.2 million words: those of English word lists and of the judged
collections, and the head words of Vespa's dictionary with every ending."""
