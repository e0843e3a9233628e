"""Time the reranking of 100 documents by ranker and by sentence-transformers on the same pairs.

    python benchmarks/reranking.py BUNDLE CHECKPOINT COLLECTION [--rounds 7]

Needs `pip install sentence-transformers`.  Both tokenize the query.  ranker is given the token ids
of the documents, as the engine stores them, and sentence-transformers is given their texts.  The
runs are interleaved; the script prints the medians and their ratio.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ranker.artifacts.bundle import Bundle
from ranker.contract.encode import document_text
from ranker.dataset import load
from ranker.export.score import Scorer
from ranker.lexical.bm25 import BM25Index


def main() -> None:
    """Time both and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("collection")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    from sentence_transformers import CrossEncoder

    bundle, dataset = Bundle.open(arguments.bundle), load(arguments.collection)
    encoder, scorer = bundle.encoder(), Scorer(bundle.model, bundle.spec)
    theirs = CrossEncoder(str(arguments.checkpoint), max_length=bundle.spec.length, device="cpu")
    index = BM25Index(dataset.documents.values())
    queries = [query.text for query in dataset.queries.values()][: arguments.rounds + 1]
    times: dict[str, list[float]] = {"ranker": [], "sentence-transformers": []}
    for round_, text in enumerate(queries):
        hits = [dataset.documents[doc_id] for doc_id, _ in index.search(text, 100)]
        ids = encoder.documents_ids(hits)
        texts = [document_text(document, bundle.spec) for document in hits]

        def ours(text: str = text, ids: list[list[int]] = ids) -> np.ndarray:
            return scorer.logits(encoder.query_ids(text), ids)

        def library(text: str = text, texts: list[str] = texts) -> np.ndarray:
            pairs = [(text, document) for document in texts]
            return theirs.predict(pairs, activation_fn=None, show_progress_bar=False)

        runs = {"ranker": ours, "sentence-transformers": library}
        for name in sorted(runs, reverse=bool(round_ % 2)):
            seconds = _timed(runs[name])
            if round_:  # the first round is a warm-up
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:24} {1000 * value:8.0f} ms  (median of {len(times[name])})")
    print(f"ratio {medians['ranker'] / medians['sentence-transformers']:.3f}")


def _timed(run: Callable[[], np.ndarray]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
