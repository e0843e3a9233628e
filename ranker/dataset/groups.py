"""Groups to train on: a query, a document that answers it, and documents that do not.

The groups here come from judged queries; `ranker.dataset.pretraining` makes those of the corpus.

Unjudged documents that BM25 ranks high may be answers that no annotator saw.  The guard against
such false negatives is that of positive-aware mining (NV-Retriever, Moreira et al. 2024,
arXiv:2407.15831: "top-k shifted by N" and "top-k with a percentage of the positive's score"), with
BM25's ranks and scores in place of a teacher's, or the logits of the model in training.
"""

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ranker.dataset.collection import Dataset
from ranker.errors import DataError
from ranker.lexical.bm25 import FirstPhase
from ranker.metrics.measures import Run
from ranker.records import Document

__all__ = [
    "Negatives",
    "Sampler",
    "TrainingGroup",
    "count_negatives",
    "judged_groups",
    "scored_groups",
]


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """A query with documents to rank, the positive first.

    Attributes:
        query: text of the query.
        documents: the documents to rank.
        grades: a grade for each document; 0 for unjudged ones.
        sources: where each document comes from: positive, judged, hard or random.
        teacher_scores: a teacher's score for each document, if there is a teacher.
        left_out: number of documents that the guard against false negatives kept away, by rule.
    """

    query: str
    documents: tuple[Document, ...]
    grades: tuple[int, ...]
    sources: tuple[str, ...]
    teacher_scores: tuple[float, ...] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """How the documents that do not answer a query are chosen.

    Attributes:
        count: negatives in a group.
        random: number of them that are sampled from the whole corpus.
        depth: hard negatives are sampled from the best `depth` documents of BM25.
        skip_top: unjudged documents among this many best ones are not negatives.
        max_score_ratio: unjudged documents whose BM25 score is above this many times that of the
            positive are not negatives; if the positive shares no word with the query, that is
            every document that does.  None for no such limit.
        logit_margin: unjudged documents whose logit is above that of the positive minus this are
            not negatives, if the model's logits are given.  None for no such limit.
    """

    count: int = 5
    random: int = 0
    depth: int = 60
    skip_top: int = 0
    max_score_ratio: float | None = None
    logit_margin: float | None = None


@dataclass(frozen=True)
class _Guard:
    """The rules that keep possible false negatives of one query away.

    Attributes:
        negatives: the limits.
        skipped: the best documents of BM25, up to `skip_top`.
        score: BM25's score of a document.
        logits: the model's logits of some documents.
    """

    negatives: Negatives
    skipped: frozenset[str]
    score: Callable[[str], float]
    logits: Mapping[str, float]

    def rule_against(self, doc_id: str, positive: str) -> str | None:
        """Return the rule that keeps an unjudged document away, or None."""
        if doc_id in self.skipped:
            return "skip_top"
        limit = self.negatives.max_score_ratio
        if limit is not None and self.score(doc_id) > limit * self.score(positive):
            return "max_score_ratio"
        limit = self.negatives.logit_margin
        if limit is not None and doc_id in self.logits:
            if self.logits[doc_id] > self.logits[positive] - limit:
                return "logit_margin"
        return None


def judged_groups(
    dataset: Dataset,
    first_phase: FirstPhase,
    *,
    negatives: Negatives,
    seed: int,
    min_grade: int = 1,
    logits: Run | None = None,
) -> Iterator[TrainingGroup]:
    """Yield a group for every document of grade `min_grade` or higher, with sampled negatives.

    Documents judged lower come first (at most half of the negatives, with their own grade),
    then unjudged documents that BM25 ranks high and the guard lets through, then random ones.
    A document judged as high as the positive, or an unjudged copy of it, is never a negative.

    Args:
        dataset: judged queries.
        first_phase: BM25 over the corpus.
        negatives: how they are chosen.
        seed: decides what is sampled.
        min_grade: minimum grade of a positive.
        logits: the model's, of BM25's best `depth` documents and of the judged ones; then hard
            negatives are sampled from the half of them that the model ranks higher.

    Raises:
        DataError: no query has a document of that grade.
    """
    sampler = Sampler(dataset.documents, first_phase.index.doc_ids, negatives, seed)
    empty = True
    for query_id, judged in dataset.qrels.items():
        text = dataset.queries[query_id].text
        hits = [id_ for id_, _ in first_phase.search(text, negatives.depth + len(judged))]
        skipped = frozenset(hits[: negatives.skip_top])
        row = logits[query_id] if logits else {}
        if logits:
            hits = sorted(row, key=lambda doc_id: -row[doc_id])
            hits = hits[: negatives.depth // 2 + len(judged)]
        guard = _Guard(negatives, skipped, functools.partial(first_phase.score, text), row)
        unjudged = [doc_id for doc_id in hits if doc_id not in judged]
        for positive, grade in judged.items():
            if grade >= min_grade:
                empty = False
                yield sampler.judged_group(text, judged, positive, unjudged, guard)
    if empty:
        raise DataError(
            f"{dataset.name}: no query has a document of grade {min_grade} or higher, "
            "nothing to learn from"
        )


def scored_groups(
    dataset: Dataset, *, count: int, seed: int, min_grade: int = 1
) -> Iterator[TrainingGroup]:
    """Yield groups of documents that have a teacher's score in the data: judged ones only.

    There is one for every document of grade `min_grade` or higher, with at most `count` documents
    sampled from those of its query that are judged lower; a document without such others is
    skipped.

    Raises:
        DataError: there is no such group.
    """
    rng = random.Random(seed)
    empty = True
    for query_id, judged in dataset.qrels.items():
        scores = dataset.teacher_scores[query_id]
        for doc_id, grade in judged.items():
            lower = sorted(other for other in judged if judged[other] < grade)
            if grade < min_grade or not lower:
                continue
            ids = [doc_id, *rng.sample(lower, min(len(lower), count))]
            empty = False
            yield TrainingGroup(
                dataset.queries[query_id].text,
                tuple(dataset.documents[id_] for id_ in ids),
                tuple(judged[id_] for id_ in ids),
                ("positive", *["judged"] * (len(ids) - 1)),
                tuple(scores[id_] for id_ in ids),
            )
    if empty:
        raise DataError(
            f"{dataset.name}: no query has a document of grade {min_grade} or higher and another "
            "judged lower, so the column teacher_score compares nothing; --teacher also scores "
            "unjudged documents"
        )


def count_negatives(groups: Sequence[TrainingGroup]) -> dict[str, int]:
    """Count the documents of the groups by source, and those that the guard left out by rule."""
    counts: Counter[str] = Counter()
    for group in groups:
        counts.update(group.sources)
        counts.update({f"left out by {rule}": number for rule, number in group.left_out.items()})
    return dict(sorted(counts.items()))


class Sampler:
    """Samples the documents of groups; the seed and the order of the calls decide which.

    Args:
        documents: the corpus.
        doc_ids: ids of its documents, in an order that stays the same.
        negatives: how many are sampled, and how many of them from the whole corpus.
        seed: of everything that is sampled.

    Attributes:
        rng: the source of what is sampled.
    """

    def __init__(
        self,
        documents: Mapping[str, Document],
        doc_ids: Sequence[str],
        negatives: Negatives,
        seed: int,
    ) -> None:
        self.rng = random.Random(seed)
        self._documents, self._doc_ids, self._negatives = documents, doc_ids, negatives

    def judged_group(
        self,
        query: str,
        judged: Mapping[str, int],
        positive: str,
        unjudged: Sequence[str],
        guard: _Guard,
    ) -> TrainingGroup:
        """Return a positive with documents that are judged lower, hard ones and random ones."""
        grade, count = judged[positive], self._negatives.count
        lower = sorted(doc_id for doc_id, other in judged.items() if other < grade)
        chosen = self.rng.sample(lower, min(len(lower), (count + 1) // 2))
        answers = {
            _content(self._documents[doc_id]) for doc_id, other in judged.items() if other >= grade
        }
        rules = [guard.rule_against(doc_id, positive) for doc_id in unjudged]
        others, sources = self.unjudged(
            [
                doc_id
                for doc_id, rule in zip(unjudged, rules, strict=True)
                if rule is None and _content(self._documents[doc_id]) not in answers
            ],
            count=count - len(chosen),
            excluded=set(judged),
            allowed=lambda doc_id: (
                _content(self._documents[doc_id]) not in answers
                and guard.rule_against(doc_id, positive) is None
            ),
        )
        ids = [positive, *chosen, *others]
        return TrainingGroup(
            query,
            tuple(self._documents[doc_id] for doc_id in ids),
            tuple(judged.get(doc_id, 0) for doc_id in ids),
            ("positive", *["judged"] * len(chosen), *sources),
            left_out=Counter(rule for rule in rules if rule),
        )

    def unjudged(
        self,
        hard: Sequence[str],
        *,
        count: int,
        excluded: set[str],
        allowed: Callable[[str], bool],
    ) -> tuple[list[str], list[str]]:
        """Sample hard negatives, then random ones, and return them with their sources.

        Args:
            hard: candidates for hard negatives.
            count: number of negatives; fewer if there are not enough documents.
            excluded: documents that are never sampled at random.
            allowed: whether another document may be sampled at random.
        """
        hard_count = max(count - self._negatives.random, 0)
        chosen = self.rng.sample(hard, min(len(hard), hard_count))
        sources = ["hard"] * len(chosen)
        taken = excluded | set(chosen)
        for _ in range(20 * count):  # a corpus of a few documents may not have enough
            if len(chosen) >= count:
                break
            doc_id = self.rng.choice(self._doc_ids)
            if doc_id not in taken and allowed(doc_id):
                taken.add(doc_id)
                chosen.append(doc_id)
                sources.append("random")
        return chosen, sources


def _content(document: Document) -> tuple[str, str]:
    return document.text, "" if document.text else document.title
