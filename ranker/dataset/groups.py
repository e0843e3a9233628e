"""Groups to train on: a query, a document that answers it, and documents that do not.

Judged groups come from qrels; pretraining groups from the corpus alone (title to body, a sentence
to the rest of its document: the inverse cloze task of Lee et al. 2019, arXiv:1906.00300).

Unjudged documents that BM25 ranks high may be answers that nobody judged.  The guard against such
false negatives is that of positive-aware mining (NV-Retriever, Moreira et al. 2024,
arXiv:2407.15831: "top-k shifted by N" and "top-k with a percentage of the positive's score"), with
BM25's ranks and scores in place of a teacher's, or the logits of the model that is trained.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ranker.dataset.collection import Dataset
from ranker.errors import DataError
from ranker.lexical.bm25 import BM25Index
from ranker.metrics.measures import Run
from ranker.records import Document

__all__ = [
    "TrainingGroup",
    "Negatives",
    "count_negatives",
    "judged_groups",
    "scored_groups",
    "pretrain_groups",
]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """A query with documents to rank; `grades` has one grade for each of `documents`.

    `sources` says where each document came from: positive, judged, hard or random;
    `teacher_scores` has a teacher's score for each, where there is a teacher; `left_out` counts
    what the guard against false negatives kept away, by its rule.
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
        random: how many of them are drawn from the whole corpus.
        depth: hard negatives are drawn from the best `depth` documents of BM25.
        skip_top: so many of the best of them are no negatives unless they are judged.
        max_score_ratio: unjudged documents whose BM25 score is above this many times that of the
            positive are no negatives; where the positive shares no word with the query, that is
            every document that does.  None for no such limit.
        logit_margin: where the model's logits are there, unjudged documents whose logit is above
            that of the positive minus this are none either.  None for no such limit.
    """

    count: int = 5
    random: int = 0
    depth: int = 60
    skip_top: int = 0
    max_score_ratio: float | None = None
    logit_margin: float | None = None


@dataclass(frozen=True)
class _Asked:
    """A judged query: its best documents, BM25's score of any, the model's logits of some.

    `skipped` are BM25's best, which are no negatives unless they are judged.
    """

    text: str
    judged: Mapping[str, int]
    hits: Sequence[str]
    skipped: frozenset[str]
    score: Callable[[str], float]
    logits: Mapping[str, float]

    def guarded(self, doc_id: str, positive: str, negatives: Negatives) -> str | None:
        """The rule by which the guard keeps an unjudged document away, if it does."""
        if doc_id in self.skipped:
            return "skip_top"
        limit = negatives.max_score_ratio
        if limit is not None and self.score(doc_id) > limit * self.score(positive):
            return "max_score_ratio"
        limit = negatives.logit_margin
        if limit is not None and doc_id in self.logits:
            if self.logits[doc_id] > self.logits[positive] - limit:
                return "logit_margin"
        return None


def judged_groups(
    dataset: Dataset,
    index: BM25Index,
    *,
    negatives: Negatives,
    seed: int,
    min_grade: int = 1,
    logits: Run | None = None,
) -> Iterator[TrainingGroup]:
    """One group for every document of grade `min_grade` or higher, with newly drawn negatives.

    Documents judged lower come first (at most half of the negatives, with their own grade),
    then unjudged documents that BM25 ranks high and the guard lets through, then random ones.
    A document judged as high as the positive, or an unjudged copy of it, is never a negative.

    Args:
        dataset: judged queries.
        index: BM25 over the corpus.
        negatives: how they are chosen.
        seed: of what is drawn.
        min_grade: lowest grade of a positive.
        logits: the model's, of BM25's best `depth` documents and of the judged ones; then hard
            negatives are drawn from the half of them that the model ranks higher.

    Raises:
        DataError: no query has a document of that grade.
    """
    draw = random.Random(seed)
    score_of = _scorer(index) if negatives.max_score_ratio is not None else None
    empty = True
    for query_id, judged in dataset.qrels.items():
        text = dataset.queries[query_id].text
        row = logits[query_id] if logits else {}
        hits = [doc_id for doc_id, _ in index.search(text, negatives.depth + len(judged))]
        skipped = frozenset(hits[: negatives.skip_top])
        if logits:
            hits = sorted(row, key=lambda doc_id: -row[doc_id])
            hits = hits[: negatives.depth // 2 + len(judged)]
        score = score_of(text) if score_of else lambda _: 0.0
        asked = _Asked(text, judged, hits, skipped, score, row)
        for doc_id, grade in judged.items():
            if grade >= min_grade:
                empty = False
                yield _judged_group(
                    dataset.documents, index.doc_ids, asked, doc_id, negatives, draw
                )
    if empty:
        raise DataError(
            f"{dataset.name}: no query has a document of grade {min_grade} or higher, "
            "nothing to learn from"
        )


def scored_groups(
    dataset: Dataset, *, count: int, seed: int, min_grade: int = 1
) -> Iterator[TrainingGroup]:
    """Groups of documents that the data has a teacher's score for, so without unjudged ones.

    One for every document of grade `min_grade` or higher, with at most `count` drawn from those of
    its query that are judged lower; a document without such others is passed over.

    Raises:
        DataError: there is no such group.
    """
    draw = random.Random(seed)
    empty = True
    for query_id, judged in dataset.qrels.items():
        scores = dataset.teacher_scores[query_id]
        for doc_id, grade in judged.items():
            lower = sorted(other for other in judged if judged[other] < grade)
            if grade < min_grade or not lower:
                continue
            ids = [doc_id, *draw.sample(lower, min(len(lower), count))]
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


def pretrain_groups(
    documents: Mapping[str, Document],
    index: BM25Index,
    *,
    count: int,
    negatives: Negatives,
    seed: int,
) -> Iterator[TrainingGroup]:
    """`count` groups from the corpus alone: half ask with a title, half with a sentence.

    Documents too short to be taken apart are passed over.

    Raises:
        DataError: no document can be taken apart.
    """
    draw = random.Random(seed)
    order = list(documents.values())
    made = 0
    while made < count:
        before = made
        draw.shuffle(order)
        for document in order:
            parts = _take_apart(document, draw)
            if parts is not None:
                made += 1
                yield _pretrain_group(documents, index, document, parts, negatives, draw)
            if made == count:
                break
        if made == before:
            raise DataError(
                f"pretraining on the corpus: none of the {len(documents)} documents has a title "
                "and a text, or two sentences of at least 4 words; train without --pretrain"
            )


def count_negatives(groups: Sequence[TrainingGroup]) -> dict[str, int]:
    """How many documents of each source the groups hold, and how many the guard left out."""
    counts: dict[str, int] = {}
    for group in groups:
        for source in group.sources:
            counts[source] = counts.get(source, 0) + 1
        for rule, number in group.left_out.items():
            source = f"left out by {rule}"
            counts[source] = counts.get(source, 0) + number
    return dict(sorted(counts.items()))


def _scorer(index: BM25Index) -> Callable[[str], Callable[[str], float]]:
    """For a query, BM25's score of a document by its id."""
    rows = {doc_id: row for row, doc_id in enumerate(index.doc_ids)}

    def of_query(query: str) -> Callable[[str], float]:
        scores = index.scores(query)
        return lambda doc_id: float(scores[rows[doc_id]])

    return of_query


def _judged_group(
    documents: Mapping[str, Document],
    ids: Sequence[str],
    asked: _Asked,
    positive: str,
    negatives: Negatives,
    draw: random.Random,
) -> TrainingGroup:
    judged = asked.judged
    grade = judged[positive]
    lower = sorted(doc_id for doc_id, other in judged.items() if other < grade)
    chosen = draw.sample(lower, min(len(lower), (negatives.count + 1) // 2))
    sources = ["positive", *["judged"] * len(chosen)]
    document = documents[positive]
    unjudged = [doc_id for doc_id in asked.hits if doc_id not in judged]
    rules = [asked.guarded(doc_id, positive, negatives) for doc_id in unjudged]
    others, kinds = _unjudged(
        documents,
        ids,
        [doc_id for doc_id, rule in zip(unjudged, rules, strict=True) if rule is None],
        count=negatives.count - len(chosen),
        random_count=negatives.random,
        refused=set(judged),
        allowed=lambda doc_id: asked.guarded(doc_id, positive, negatives) is None,
        answers=[documents[doc_id] for doc_id, other in judged.items() if other >= grade],
        draw=draw,
    )
    chosen += others
    return TrainingGroup(
        asked.text,
        (document, *(documents[doc_id] for doc_id in chosen)),
        (grade, *(judged.get(doc_id, 0) for doc_id in chosen)),
        (*sources, *kinds),
        left_out=Counter(rule for rule in rules if rule),
    )


def _unjudged(
    documents: Mapping[str, Document],
    ids: Sequence[str],
    hard: Sequence[str],
    *,
    count: int,
    random_count: int,
    refused: set[str],
    answers: Sequence[Document],
    draw: random.Random,
    allowed: Callable[[str], bool] = lambda _: True,
) -> tuple[list[str], list[str]]:
    """Hard negatives, then random ones that are allowed, none with the text of an answer.

    Where it has no text, its title counts.
    """
    known = {_content(answer) for answer in answers}

    def differs(doc_id: str) -> bool:
        return _content(documents[doc_id]) not in known

    candidates = [doc_id for doc_id in hard if doc_id not in refused and differs(doc_id)]
    chosen = draw.sample(candidates, min(len(candidates), max(count - random_count, 0)))
    kinds = ["hard"] * len(chosen)
    taken = refused | set(chosen)
    for _ in range(20 * count):  # a corpus of a few documents may not have enough
        if len(chosen) >= count:
            break
        doc_id = draw.choice(ids)
        if doc_id not in taken and differs(doc_id) and allowed(doc_id):
            taken.add(doc_id)
            chosen.append(doc_id)
            kinds.append("random")
    return chosen, kinds


def _content(document: Document) -> tuple[str, str]:
    return document.text, "" if document.text else document.title


def _pretrain_group(
    documents: Mapping[str, Document],
    index: BM25Index,
    document: Document,
    parts: tuple[str, Document],
    negatives: Negatives,
    draw: random.Random,
) -> TrainingGroup:
    query, rest = parts
    hits = [doc_id for doc_id, _ in index.search(query, negatives.depth)]
    chosen, kinds = _unjudged(
        documents,
        index.doc_ids,
        hits,
        count=negatives.count,
        random_count=negatives.random,
        refused={document.doc_id},
        answers=[document],
        draw=draw,
    )
    others = [documents[doc_id] for doc_id in chosen]
    if not rest.title:  # the title asks, so no document of the group shows its own
        others = [Document(other.doc_id, "", other.text or other.title) for other in others]
    return TrainingGroup(query, (rest, *others), (1, *[0] * len(others)), ("positive", *kinds))


def _take_apart(document: Document, draw: random.Random) -> tuple[str, Document] | None:
    """A query and the document without it, or None where that cannot be."""
    sentences = [part.strip() for part in _SENTENCE_END.split(document.text) if part.strip()]
    long = [n for n, sentence in enumerate(sentences) if len(sentence.split()) >= 4]
    by_title = bool(document.title and sentences)
    if by_title and (draw.random() < 0.5 or len(sentences) < 2 or not long):
        return document.title, Document(document.doc_id, "", document.text)
    if len(sentences) < 2 or not long:
        return None
    asked = draw.choice(long)
    rest = " ".join(sentences[:asked] + sentences[asked + 1 :])
    return sentences[asked], Document(document.doc_id, document.title or " ", rest)
