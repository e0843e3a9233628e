"""The state that all checks of one run share: the collection, the limits, and BM25's ranking."""

import functools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ranker.contract.encode import Encoder
from ranker.errors import DataError
from ranker.lexical.bm25 import BM25Index
from ranker.lint.collection import Collection
from ranker.lint.finding import Example, Kind, Skipped, clip
from ranker.metrics.significance import intervals
from ranker.records import Document

__all__ = ["DEPTH", "QUICK_DOCUMENTS", "Inspection"]

DEPTH = 100
"""Depth of BM25's ranking that is checked: what a reranker usually gets."""
QUICK_DOCUMENTS = 20_000
"""A quick run skips slow checks in a larger corpus."""
_RANKED_CELLS = 400_000_000
_FEWEST_RANKED = 200
_FEWEST_COMPARED = 10
_RESAMPLES = 2_000

Item = TypeVar("Item")


@dataclass
class Inspection:
    """One run of the linter.

    Attributes:
        collection: the collection to check.
        min_grade: minimum grade of an answer.
        examples: maximum number of examples of a finding.
        quick: skip slow checks in a corpus of more than `QUICK_DOCUMENTS`.
        encoder: turns texts into tokens; None without a base model.
        no_encoder: why there is no encoder.
        unranked: why there is no ranking, once it was asked for.
        skipped: checks that were skipped; filled by the checks.
        figures: measurements for plots and for later checks; filled by the checks.
    """

    collection: Collection
    min_grade: int = 1
    examples: int = 5
    quick: bool = False
    encoder: Encoder | None = None
    no_encoder: str = "no base model was given"
    unranked: str = ""
    skipped: list[Skipped] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def too_large(self) -> bool:
        """True if slow checks are skipped."""
        return self.quick and len(self.collection.documents) > QUICK_DOCUMENTS

    @functools.cached_property
    def documents(self) -> list[Document]:
        """The documents that are read one by one: all, or a sample of too many."""
        everything = self.collection.documents.values()
        return sample(everything, QUICK_DOCUMENTS) if self.too_large else list(everything)

    @property
    def called(self) -> str:
        """What to call `documents` in a sentence."""
        return "sampled documents" if self.too_large else "documents"

    def skip(self, check: str, reason: str, kinds: Iterable[Kind]) -> None:
        """Note that a check is skipped, and the kinds that it might have found."""
        self.skipped.append(Skipped(check, reason, tuple(kind.id for kind in kinds)))

    def answers(self, query_id: str) -> list[str]:
        """Return the documents that are judged relevant to a query."""
        grades = self.collection.qrels[query_id]
        return [doc_id for doc_id, grade in grades.items() if grade >= self.min_grade]

    def others(self, query_id: str) -> list[str]:
        """Return the documents that are judged, but not relevant."""
        grades = self.collection.qrels[query_id]
        return [doc_id for doc_id, grade in grades.items() if grade < self.min_grade]

    @functools.cached_property
    def judged_negatives(self) -> int:
        """The number of judgements below `min_grade`."""
        return sum(len(self.others(query_id)) for query_id in self.collection.qrels)

    @functools.cached_property
    def ranked(self) -> dict[str, list[str]] | None:
        """The best `DEPTH` documents of BM25 by judged query; None if there is no ranking.

        In a large corpus, those of a sample of the queries, always the same one.
        """
        if self.too_large:
            self.unranked = f"quick run, {len(self.collection.documents):,} documents"
            return None
        try:
            index = BM25Index(self.collection.documents.values())
        except DataError as error:
            self.unranked = str(error)
            return None
        most = max(_FEWEST_RANKED, _RANKED_CELLS // len(self.collection.documents))
        return {
            query_id: [doc_id for doc_id, _ in index.search(self.text(query_id), DEPTH)]
            for query_id in sample(self.collection.qrels, most)
        }

    def text(self, query_id: str) -> str:
        """Return the text of a query."""
        return self.collection.queries[query_id].text

    def query_example(self, query_id: str, note: str = "") -> Example:
        """Return a query as an example."""
        text = clip(self.text(query_id))
        place = self.collection.query_place(query_id)
        return Example((query_id,), f"{text}{f' — {note}' if note else ''}", place)

    def document_example(self, doc_id: str, note: str = "") -> Example:
        """Return a document as an example: a note, or else how it begins."""
        text = note or clip(headline(self.collection.documents[doc_id]))
        return Example((doc_id,), text, self.collection.document_place(doc_id))


def headline(document: Document) -> str:
    """Return the title of a document, or else its text."""
    return document.title or document.text or "(empty)"


def sample(items: Iterable[Item], most: int) -> list[Item]:
    """Return at most `most` of the items, in their order, always the same sample."""
    everything = list(items)
    if len(everything) <= most:
        return everything
    rows = sorted(random.Random(0).sample(range(len(everything)), most))
    return [everything[row] for row in rows]


def mean_difference(differences: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the mean of a difference by query and its 95 % interval.

    None if there are too few queries to tell.
    """
    if len(differences) < _FEWEST_COMPARED:
        return None
    low, high = intervals(np.array([differences]), resamples=_RESAMPLES)[0]
    return float(np.mean(differences)), float(low), float(high)


def part(count: int, total: int) -> str:
    """Return a share for a sentence: 3 of 50 (6 %)."""
    return f"{count:,} of {total:,} ({percent(count / total if total else 0)})"


def percent(share: float) -> str:
    """Return a share in percent, never rounded to 0 % or 100 %."""
    value = 100 * share
    if 0 < value < 1 or 99 < value < 100:
        shown = f"{value:.1f}"
        return f"{'< 0.1' if shown == '0.0' else '> 99.9' if shown == '100.0' else shown} %"
    return f"{value:.0f} %"


def plural(count: int, singular: str, many: str = "") -> str:
    """Return a count with its noun: 1 query, 2 queries."""
    return f"{count:,} {singular if count == 1 else many or singular + 's'}"
