"""Groups to pretrain on, made from the corpus alone: no judgement is used.

A document asks in one of three ways:
    - its title asks for its body;
    - a sentence asks for the rest of its document (the inverse cloze task of Lee et al. 2019,
      arXiv:1906.00300);
    - some of its rarest words, as people type them into a search box, ask for the document.

What would be a false negative for certain is never a negative: a near-duplicate of the positive,
another passage of the same document, or a document that holds the sentence or all the keywords
that ask.
"""

import functools
import itertools
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ranker.dataset.groups import Negatives, Sampler, TrainingGroup
from ranker.errors import DataError
from ranker.lexical.bm25 import BM25Index, contents
from ranker.lexical.near_duplicates import Features, alike, document_features, normalized
from ranker.lexical.terms import terms
from ranker.records import Document

__all__ = ["LEAST_HELD_OUT", "held_out_groups", "passage_stems", "pretraining_groups"]

SENTENCE_WORDS = 4
"""Words of the shortest sentence that asks."""
LEAST_KEYWORDS, MOST_KEYWORDS = 2, 5
RAREST = 8
"""Keywords are sampled from this many of a document's rarest terms."""
COMMON = 10
"""A term in more than one document of this many is not a keyword."""
RIVAL = 0.5
"""Share of the positive's BM25 score that another document must have for keywords to ask."""
TRIES = 3
"""Samples of keywords, of which the first that may ask does."""
TITLE_WORDS = 3
"""Words of the shortest title that only passages of one document share."""
COMPARED = 4000
"""Near-duplicates are known by this many first characters, more than a model sees of them."""
LEAST_STEMS = 10
"""Fewer documents in numbered passages may be a corpus that counts all its documents."""
LEAST_HELD_OUT = 20
"""Fewer held-out groups would measure chance."""
HELD_OUT_SHARE = 5
"""One document in this many may be held out."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_WORD = re.compile(r"\w+")
_PASSAGE = re.compile(r"(.+)[#_-]([0-9]{1,9})", re.DOTALL)

_Rule = Callable[[Document], str | None]
"""The rule that keeps a document from being a negative, or None."""


def pretraining_groups(
    documents: Mapping[str, Document],
    index: BM25Index,
    *,
    count: int,
    words: int,
    negatives: Negatives,
    seed: int,
    without: Collection[str] = frozenset(),
) -> Iterator[TrainingGroup]:
    """Yield `count` groups; every document that can ask does so before one asks again.

    Args:
        documents: the corpus.
        index: BM25 over it.
        count: number of groups.
        words: keywords are among this many first words of a document, which the model sees.
        negatives: how many there are, and how they are chosen.
        seed: decides what is sampled.
        without: documents that are in no group, such as held-out ones.

    Raises:
        DataError: no document can ask.
    """
    corpus = _Corpus(documents, index, words, negatives, seed, without)
    made = 0
    while made < count:
        before = made
        for group in itertools.islice(corpus.groups(corpus.shuffled()), count - made):
            made += 1
            yield group
        if made == before:
            raise DataError(
                f"pretraining on the corpus: none of the {len(documents)} documents has a title "
                f"and a text, two sentences, one of them of at least {SENTENCE_WORDS} words, or "
                "words that it shares with others; train without --pretrain"
            )


def held_out_groups(
    documents: Mapping[str, Document],
    index: BM25Index,
    *,
    most: int,
    words: int,
    negatives: Negatives,
    seed: int,
) -> list[TrainingGroup]:
    """Return at most `most` groups of different documents, to measure what training achieves.

    They are made of at most a fifth of the corpus.  There are none if that leaves fewer than
    `LEAST_HELD_OUT`, by which no step could be chosen.  The other arguments are those of
    `pretraining_groups`; with the seed of the training they would be its first groups.
    """
    corpus = _Corpus(documents, index, words, negatives, seed, frozenset())
    asking = corpus.shuffled()[: len(documents) // HELD_OUT_SHARE]
    groups = list(itertools.islice(corpus.groups(asking), most))
    return groups if len(groups) >= LEAST_HELD_OUT else []


def passage_stems(doc_ids: Collection[str]) -> frozenset[str]:
    """Return the ids of documents whose passages are numbered: `doc` of `doc#0`, `doc#1`, ...

    A number at the end of an id usually counts something else: all documents (`doc-17`), a year, a
    collection.  It is taken for that of a passage only where at least ten ids, with more than half
    of the documents between them, are each followed by the numbers from 0 or 1 without a gap.
    """
    numbers: dict[str, list[int]] = defaultdict(list)
    for doc_id in doc_ids:
        if match := _PASSAGE.fullmatch(doc_id):
            numbers[match[1]].append(int(match[2]))
    stems = {
        stem: len(row)
        for stem, row in numbers.items()
        if len(row) > 1 and sorted(row) in (list(range(len(row))), list(range(1, len(row) + 1)))
    }
    certain = len(stems) >= LEAST_STEMS and 2 * sum(stems.values()) > len(doc_ids)
    return frozenset(stems) if certain else frozenset()


@dataclass(frozen=True)
class _Question:
    """A query that a document asks.

    Attributes:
        text: the query.
        positive: what is left of the document to answer it.
        answers: the rule that says whether another document answers it as well.
    """

    text: str
    positive: Document
    answers: _Rule


class _Corpus:
    """Makes groups; the seed and the order of the calls decide which.

    The arguments are those of `pretraining_groups`.
    """

    def __init__(
        self,
        documents: Mapping[str, Document],
        index: BM25Index,
        words: int,
        negatives: Negatives,
        seed: int,
        without: Collection[str],
    ) -> None:
        self._documents, self._index, self._words = documents, index, words
        self._negatives, self._without = negatives, frozenset(without)
        self._sampler = Sampler(documents, index.doc_ids, negatives, seed)
        self._rng: random.Random = self._sampler.rng
        self._stems = passage_stems(index.doc_ids)
        self._order = [doc for id_, doc in documents.items() if id_ not in self._without]

    def shuffled(self) -> list[Document]:
        """Return the documents that may ask, in a new order."""
        self._rng.shuffle(self._order)
        return self._order

    def groups(self, asking: Iterable[Document]) -> Iterator[TrainingGroup]:
        """Yield a group for each document that can ask."""
        ways = [self._by_title, self._by_sentence, self._by_keywords]
        for document in asking:
            questions = (way(document) for way in self._rng.sample(ways, len(ways)))
            question = next((question for question in questions if question), None)
            if question:
                yield self._group(document, question)

    def _by_title(self, document: Document) -> _Question | None:
        """Let the title ask, which no document of the group then shows."""
        if not document.title.strip() or not document.text.strip():
            return None
        title = normalized(document.title)
        return _Question(
            document.title,
            Document(document.doc_id, "", document.text),
            lambda other: "same title" if normalized(other.title) == title else None,
        )

    def _by_sentence(self, document: Document) -> _Question | None:
        """Let a sentence ask, which is taken out of its document."""
        sentences = [part.strip() for part in _SENTENCE_END.split(document.text) if part.strip()]
        long = [n for n, part in enumerate(sentences) if len(part.split()) >= SENTENCE_WORDS]
        if len(sentences) < 2 or not long:
            return None
        asked = self._rng.choice(long)
        sentence, rest = sentences[asked], sentences[:asked] + sentences[asked + 1 :]
        return _Question(
            sentence,
            Document(document.doc_id, document.title, " ".join(rest)),
            lambda other: "same sentence" if sentence in other.text else None,
        )

    def _by_keywords(self, document: Document) -> _Question | None:
        """Let some of the rarest words ask for the document, in the order of the text.

        Since the words are in the document, BM25 finds it; where it finds it alone there is nothing
        to learn.  So a term that only this document holds is never asked for (often an id, a number
        or a misprint, by which any index would find it), and another document, which lacks a word,
        must have at least half of its BM25 score: by counting words the model could not tell
        which of the two has all of them.
        """
        word_of: dict[str, str] = {}
        for word in _WORD.findall(contents(document))[: self._words]:
            if len(own := terms(word)) == 1:
                word_of.setdefault(own[0], word)
        most = max(2, len(self._documents) // COMMON)
        shared = {term: n for term in word_of if 1 < (n := self._index.frequency(term)) <= most}
        rarest = sorted(shared, key=shared.__getitem__)[:RAREST]
        for _ in range(TRIES if len(rarest) >= LEAST_KEYWORDS else 0):
            number = self._rng.randint(LEAST_KEYWORDS, min(MOST_KEYWORDS, len(rarest)))
            asked = set(self._rng.sample(rarest, number))
            query = " ".join(word for term, word in word_of.items() if term in asked)
            holding = self._index.holding(asked)
            if self._has_rival(query, document, holding):
                return _Question(
                    query,
                    document,
                    lambda other, holding=holding: (  # type: ignore[misc]
                        "all keywords" if other.doc_id in holding else None
                    ),
                )
        return None

    def _has_rival(self, query: str, document: Document, holding: Collection[str]) -> bool:
        """Return whether BM25 ranks a document near that which asks or above it."""
        hits = self._index.search(query, self._negatives.depth)
        own = dict(hits).get(document.doc_id, 0.0)  # 0 below the depth: then all hits are rivals
        rule = self._certain(document)
        return any(
            score >= RIVAL * own
            and doc_id not in holding
            and doc_id not in self._without
            and rule(self._documents[doc_id]) is None
            for doc_id, score in hits
        )

    def _group(self, document: Document, question: _Question) -> TrainingGroup:
        """Return the document that answers the question, with others that do not."""
        certain, left_out = self._certain(document), Counter[str]()

        def allowed(doc_id: str) -> bool:
            other = self._documents[doc_id]
            rule = question.answers(other) or certain(other)
            left_out.update([rule] if rule else [])
            return rule is None

        excluded = {document.doc_id, *self._without}
        hits = self._index.search(question.text, self._negatives.depth)
        candidates = [doc_id for doc_id, _ in hits if doc_id not in excluded]
        self._rng.shuffle(candidates)  # so that only as many are compared as are needed
        chosen, sources = self._sampler.unjudged(
            list(itertools.islice(filter(allowed, candidates), self._negatives.count)),
            count=self._negatives.count,
            excluded=excluded,
            allowed=allowed,
        )
        others = [self._documents[doc_id] for doc_id in chosen]
        if not question.positive.title:  # nothing but the answer may tell it from the others
            others = [Document(other.doc_id, "", other.text or other.title) for other in others]
        return TrainingGroup(
            question.text,
            (question.positive, *others),
            (1, *[0] * len(others)),
            ("positive", *sources),
            left_out=left_out,
        )

    def _certain(self, document: Document) -> _Rule:
        """Return the rule against near-duplicates and passages of the same document."""
        title = normalized(document.title)
        title_counts = len(title.split()) >= TITLE_WORDS
        stem, features = self._stem(document), _features(document)

        def rule(other: Document) -> str | None:
            if stem and stem == self._stem(other):
                return "same document"
            if title_counts and title == normalized(other.title):
                return "same title"
            return "near-duplicate" if alike(features, _features(other)) else None

        return rule

    def _stem(self, document: Document) -> str | None:
        match = _PASSAGE.fullmatch(document.doc_id) if self._stems else None
        return match[1] if match and match[1] in self._stems else None


@functools.lru_cache(maxsize=256)
def _features(document: Document) -> Features:
    return document_features((document.text or document.title)[:COMPARED])
