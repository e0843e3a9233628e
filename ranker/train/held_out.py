"""Queries that training does not see, and what a model makes of them."""

from collections.abc import Mapping
from typing import Any

from ranker.dataset import Dataset
from ranker.encode import Encoder
from ranker.lexical import BM25Index
from ranker.measures import ndcg_at_10
from ranker.model import predict

__all__ = ["HeldOutQueries"]


class HeldOutQueries:
    """The best documents of BM25 for each held-out query, ready to be reranked.

    Args:
        dataset: the held-out queries with their judgements.
        index: BM25 over the corpus.
        encoder: the contract.
        depth: documents to rerank for a query.
        bf16: whether the model computes in bfloat16.
    """

    def __init__(
        self, dataset: Dataset, index: BM25Index, encoder: Encoder, *, depth: int, bf16: bool
    ) -> None:
        self.qrels: Mapping[str, Mapping[str, int]] = dataset.qrels
        self.bm25 = {
            query_id: dict(index.search(dataset.queries[query_id].text, depth))
            for query_id in dataset.qrels
        }
        self._encoder = encoder
        self._bf16 = bf16
        queries = list(dataset.qrels)
        texts = [dataset.queries[query_id].text for query_id in queries]
        self._query_ids = dict(zip(queries, encoder.queries_ids(texts), strict=True))
        needed = sorted({doc_id for row in self.bm25.values() for doc_id in row})
        rows = encoder.documents_ids([dataset.documents[doc_id] for doc_id in needed])
        self._document_ids = dict(zip(needed, rows, strict=True))

    def logits(self, forward: Any) -> dict[str, dict[str, float]]:
        """The model's logit for every document of every query's first phase."""
        pairs = [(query_id, doc_id) for query_id, row in self.bm25.items() for doc_id in row]
        scores = predict(
            forward,
            self._encoder.spec,
            [self._query_ids[query_id] for query_id, _ in pairs],
            [self._document_ids[doc_id] for _, doc_id in pairs],
            bf16=self._bf16,
        )
        run: dict[str, dict[str, float]] = {query_id: {} for query_id in self.bm25}
        for (query_id, doc_id), score in zip(pairs, scores, strict=True):
            run[query_id][doc_id] = float(score)
        return run

    def ndcg(self, forward: Any) -> float:
        """Mean nDCG@10 of the first phase reranked by the model."""
        return ndcg_at_10(self.qrels, self.logits(forward))
