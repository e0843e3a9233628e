"""What a model reranks to be measured: BM25's hits of judged queries, and groups of pretraining."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ranker.contract.vespa_names import RERANK_COUNT
from ranker.dataset import Dataset
from ranker.dataset.groups import TrainingGroup
from ranker.dataset.pretraining import LEAST_HELD_OUT
from ranker.lexical.bm25 import FirstPhase
from ranker.metrics.measures import ndcg_at_10
from ranker.model.base import predict
from ranker.model.task import Task
from ranker.train.token_store import TokenizedTexts, TokenStore

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = [
    "HELD_OUT_NEGATIVES",
    "MRR",
    "NDCG",
    "GroupEvaluations",
    "Measure",
    "RerankedGroups",
    "RerankedQueries",
    "depth_for",
]

TOGETHER = 1000
"""Documents that are tokenized together."""
HELD_OUT_GROUPS, HELD_OUT_NEGATIVES = 100, 15
"""By which pretraining stops: more negatives than it learns from, so that the rank says more."""
EVALUATION_SHARE = 0.1
"""Time of pretraining's evaluations after its start, by that of its steps."""
TRAINED_PAIR = 3.5
"""Pairs that are scored in the time in which one is trained on, as measured on a CPU."""


def depth_for(queries: int, *, pairs: int, least: int = 20) -> int:
    """Return the documents to rerank for each query: as at serving, or fewer to limit the pairs."""
    return max(least, min(RERANK_COUNT, pairs // queries))


class RerankedQueries:
    """The best documents of BM25 for each query, ready to be reranked.

    Args:
        dataset: the queries with their judgements.
        first_phase: BM25 over the corpus.
        texts: the tokenized texts of the run.
        task: how the model's outputs become a score.
        depth: documents to rerank for a query.
        precision: in which the model computes: fp32, bf16 or fp16.
        with_judged: rerank the judged documents too, wherever BM25 ranks them.

    Attributes:
        pairs: query id and document id of everything that is reranked.
    """

    def __init__(
        self,
        dataset: Dataset,
        first_phase: FirstPhase,
        texts: TokenizedTexts,
        *,
        task: Task,
        depth: int,
        precision: str,
        with_judged: bool = False,
    ) -> None:
        self.qrels: Mapping[str, Mapping[str, int]] = dataset.qrels
        self.bm25 = {
            query_id: dict(first_phase.search(dataset.queries[query_id].text, depth))
            for query_id in dataset.qrels
        }
        self.pairs = [
            (query_id, doc_id)
            for query_id, row in self.bm25.items()
            for doc_id in dict.fromkeys([*row, *(dataset.qrels[query_id] if with_judged else ())])
        ]
        self._texts, self._task, self._precision = texts, task, precision
        questions = [dataset.queries[query_id].text for query_id in dataset.qrels]
        self._query_rows = dict(zip(dataset.qrels, texts.queries.add(questions), strict=True))
        needed = sorted({doc_id for _, doc_id in self.pairs})
        self._document_rows: dict[str, int] = {}
        for start in range(0, len(needed), TOGETHER):
            part = needed[start : start + TOGETHER]
            rows = texts.add_documents(dataset.documents[doc_id] for doc_id in part)
            self._document_rows |= zip(part, rows, strict=True)

    def outputs(
        self, forward: "Module", *, report: Callable[[int, int], None] = lambda *_: None
    ) -> npt.NDArray[np.float32]:
        """Return the model's outputs [pairs, outputs] for `pairs`.

        `report` receives the number of pairs that are done, and of all pairs.
        """
        queries = {id_: self._texts.queries[row] for id_, row in self._query_rows.items()}
        documents = {id_: self._texts.documents[row] for id_, row in self._document_rows.items()}
        return predict(
            forward,
            self._texts.spec,
            [queries[query_id] for query_id, _ in self.pairs],
            [documents[doc_id] for _, doc_id in self.pairs],
            precision=self._precision,
            report=report,
        )

    def scores(
        self, forward: "Module", *, report: Callable[[int, int], None] = lambda *_: None
    ) -> dict[str, dict[str, float]]:
        """Return the model's score of every document that is reranked, by query."""
        run: dict[str, dict[str, float]] = {query_id: {} for query_id in self.bm25}
        scores = self._task.score(self.outputs(forward, report=report))
        for (query_id, doc_id), score in zip(self.pairs, scores, strict=True):
            run[query_id][doc_id] = float(score)
        return run

    def ndcg(self, forward: "Module") -> float:
        """Return the mean nDCG@10 of the first phase reranked by the model."""
        return ndcg_at_10(self.qrels, self.scores(forward))


class GroupEvaluations(NamedTuple):
    """How pretraining is evaluated.

    Attributes:
        groups: number of held-out groups, at most.
        every: steps between two evaluations.
    """

    groups: int
    every: int

    @classmethod
    def of(cls, steps: int, *, pairs: int) -> Self:
        """Return evaluations that take a tenth of the time of `steps`, which train on `pairs`.

        A long pretraining is evaluated more often, a short one with fewer groups.
        """
        affordable = EVALUATION_SHARE * TRAINED_PAIR * pairs / (1 + HELD_OUT_NEGATIVES)
        groups = min(HELD_OUT_GROUPS, max(LEAST_HELD_OUT, int(affordable / 2)))
        return cls(groups, math.ceil(steps / max(1, int(affordable / groups))))


class RerankedGroups:
    """Groups of pretraining that no model learns from, ready to be reranked.

    Args:
        groups: the groups, the positive first.
        texts: the tokenized texts of the run.
        task: how the model's outputs become a score.
        precision: in which the model computes: fp32, bf16 or fp16.
    """

    def __init__(
        self, groups: Sequence[TrainingGroup], texts: TokenizedTexts, *, task: Task, precision: str
    ) -> None:
        self._spec, self._task, self._precision = texts.spec, task, precision
        store = TokenStore(texts, lambda group: group.grades)
        store.fill([groups])
        self._groups = [store[number] for number in range(len(store))]

    def mrr(self, forward: "Module") -> float:
        """Return the mean reciprocal rank of the positives, each after those of an equal score."""
        pairs = [(group.query_ids, ids) for group in self._groups for ids in group.documents_ids]
        queries, documents = zip(*pairs, strict=True)
        outputs = predict(forward, self._spec, queries, documents, precision=self._precision)
        ends = np.cumsum([len(group.documents_ids) for group in self._groups])
        scores = np.split(self._task.score(outputs), ends[:-1])
        # Counted from below: where no score is a number, no document is.
        return float(np.mean([1 / (len(row) - np.sum(row < row[0])) for row in scores]))


@dataclass(frozen=True)
class Measure:
    """What training stops by.

    Attributes:
        name: its name as people read it.
        of: its value for a model on held-out queries; higher is better.
    """

    name: str
    of: Callable[[RerankedQueries, "Module"], float]

    @property
    def key(self) -> str:
        """The name in training.json."""
        return self.name.lower()


NDCG = Measure("nDCG@10", RerankedQueries.ndcg)
"""nDCG@10 of the first phase reranked by the model."""

MRR = "MRR"
"""What pretraining stops by: the mean reciprocal rank of the positive in held-out groups."""
