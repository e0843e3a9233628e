"""Tokenizing titles for the feed: documents per second through the batch call.

python benchmarks/tokenizing.py COLLECTION [--rounds 5]
"""

import argparse
import statistics
import time

from ranker.contract.encode import Encoder
from ranker.dataset import load
from ranker.model.base import open_base
from ranker.model.hub import DEFAULT_BASE
from ranker.records import Document


def main() -> None:
    """Tokenize the collection's titles, repeated to 50,000, in the feeder's batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    base = open_base(DEFAULT_BASE)
    encoder = Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)
    titles = [d.title for d in load(arguments.collection).documents.values() if d.title]
    documents = [Document(str(n), titles[n % len(titles)], "") for n in range(50_000)]
    rates: dict[str, list[float]] = {"batches of 1000": [], "one by one": []}
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        for at in range(0, len(documents), 1000):
            encoder.documents_ids(documents[at : at + 1000])
        rates["batches of 1000"].append(len(documents) / (time.perf_counter() - start))
        start = time.perf_counter()
        for document in documents[:10_000]:
            encoder.document_ids(document)
        rates["one by one"].append(10_000 / (time.perf_counter() - start))
    for name, values in rates.items():
        print(f"{name:16} {statistics.median(values):9.0f} titles/s")


if __name__ == "__main__":
    main()
