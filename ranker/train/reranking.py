"""Judged queries with what BM25 finds for them, and what a model makes of that."""

from array import array
from collections.abc import Callable, Mapping
from typing import Any

from ranker.contract.encode import Encoder
from ranker.contract.vespa_names import RERANK_COUNT
from ranker.dataset import Dataset
from ranker.lexical.bm25 import FirstPhase
from ranker.metrics.measures import ndcg_at_10
from ranker.model.base import predict

__all__ = ["RerankedQueries", "depth_for"]

TOGETHER = 1000
"""Documents that are tokenized together."""


def depth_for(queries: int, *, pairs: int, least: int = 20) -> int:
    """Documents to rerank for each query: as at serving, or fewer to score so many pairs in all."""
    return max(least, min(RERANK_COUNT, pairs // queries))


class RerankedQueries:
    """The best documents of BM25 for each query, ready to be reranked.

    Args:
        dataset: the queries with their judgements.
        first_phase: BM25 over the corpus.
        encoder: the contract.
        depth: documents to rerank for a query.
        precision: in which the model computes: fp32, bf16 or fp16.
        with_judged: rerank the judged documents too, wherever BM25 has them.
    """

    def __init__(
        self,
        dataset: Dataset,
        first_phase: FirstPhase,
        encoder: Encoder,
        *,
        depth: int,
        precision: str,
        with_judged: bool = False,
    ) -> None:
        self.qrels: Mapping[str, Mapping[str, int]] = dataset.qrels
        self.bm25 = {
            query_id: dict(first_phase.search(dataset.queries[query_id].text, depth))
            for query_id in dataset.qrels
        }
        self._reranked = {
            query_id: list(dict.fromkeys([*row, *(dataset.qrels[query_id] if with_judged else ())]))
            for query_id, row in self.bm25.items()
        }
        self._encoder = encoder
        self._precision = precision
        queries = list(dataset.qrels)
        texts = [dataset.queries[query_id].text for query_id in queries]
        self._query_ids = dict(zip(queries, encoder.queries_ids(texts), strict=True))
        needed = sorted({doc_id for row in self._reranked.values() for doc_id in row})
        # As arrays: a list of 95 ids takes eight times the memory.
        self._document_ids: dict[str, array[int]] = {}
        for start in range(0, len(needed), TOGETHER):
            part = needed[start : start + TOGETHER]
            rows = encoder.documents_ids([dataset.documents[doc_id] for doc_id in part])
            self._document_ids |= {
                id_: array("i", row) for id_, row in zip(part, rows, strict=True)
            }

    def logits(
        self, forward: Any, *, tell: Callable[[int, int], None] = lambda *_: None
    ) -> dict[str, dict[str, float]]:
        """The model's logit for every document that is reranked, by query.

        `tell` is told how many pairs are scored, and of how many.
        """
        pairs = [(query_id, doc_id) for query_id, row in self._reranked.items() for doc_id in row]
        scores = predict(
            forward,
            self._encoder.spec,
            [self._query_ids[query_id] for query_id, _ in pairs],
            [self._document_ids[doc_id] for _, doc_id in pairs],
            precision=self._precision,
            tell=tell,
        )
        run: dict[str, dict[str, float]] = {query_id: {} for query_id in self.bm25}
        for (query_id, doc_id), score in zip(pairs, scores, strict=True):
            run[query_id][doc_id] = float(score)
        return run

    def ndcg(self, forward: Any) -> float:
        """Mean nDCG@10 of the first phase reranked by the model."""
        return ndcg_at_10(self.qrels, self.logits(forward))
