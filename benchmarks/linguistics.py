"""Compare BM25 with Vespa's stemmer (KStem) and with Snowball: nDCG@10 and terms per second.

    python benchmarks/linguistics.py COLLECTION... [--split test] [--rounds 5]

Both use the same tokens; only the stems differ.  Speeds are medians of interleaved rounds over the
same texts, so most stems are already cached, as they are when an index is built.
"""

import argparse
import statistics
import time
import unicodedata
from collections.abc import Callable

import bm25s
import numpy as np
import Stemmer

from ranker.dataset import load
from ranker.dataset.collection import Dataset
from ranker.lexical.bm25 import K1, B, contents
from ranker.lexical.terms import _ACCENT, _ASCII_TOKEN, _TOKEN, terms
from ranker.metrics.measures import ndcg_at_10

SNOWBALL = Stemmer.Stemmer("english")


def main() -> None:
    """Print a row for each collection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{'nDCG@10':24}{'Snowball':>10}{'KStem':>10}{'Snowball/s':>14}{'KStem/s':>14}")
    for path in arguments.collections:
        dataset = load(path, split=arguments.split)
        found = [ndcg_at_10(dataset.qrels, search(dataset, how)) for how in (snowball, terms)]
        rates = speeds(dataset, arguments.rounds)
        print(
            f"{dataset.name:24}{found[0]:10.4f}{found[1]:10.4f}{rates[0]:14,.0f}{rates[1]:14,.0f}"
        )


def snowball(text: str) -> list[str]:
    """Return the tokens of `ranker.lexical.terms.terms` with Snowball's English stems."""
    if text.isascii():
        return SNOWBALL.stemWords(_ASCII_TOKEN.findall(text.lower()))
    words = [unicodedata.normalize("NFKC", word).lower() for word in _TOKEN.findall(text)]
    return SNOWBALL.stemWords([_ACCENT.sub("", unicodedata.normalize("NFD", w)) for w in words])


def search(dataset: Dataset, how: Callable[[str], list[str]]) -> dict[str, dict[str, float]]:
    """Return the ten best documents of each query."""
    names = list(dataset.documents)
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    rows = [how(contents(document)) for document in dataset.documents.values()]
    index.index(rows, show_progress=False)
    run: dict[str, dict[str, float]] = {}
    for query in dataset.queries.values():
        known = [term for term in how(query.text) if term in index.vocab_dict]
        scores = index.get_scores(known) if known else np.zeros(len(names), dtype=np.float32)
        best = np.argsort(-scores, kind="stable")[:10]
        run[query.query_id] = {names[row]: float(scores[row]) for row in best if scores[row] > 0}
    return run


def speeds(dataset: Dataset, rounds: int) -> list[float]:
    """Return terms per second, of Snowball and of KStem."""
    texts = [contents(document) for document in dataset.documents.values()][:5000]
    ways = (snowball, terms)
    rates: dict[int, list[float]] = {0: [], 1: []}
    for round_ in range(rounds):
        for way in (0, 1) if round_ % 2 else (1, 0):
            start = time.perf_counter()
            made = sum(len(ways[way](text)) for text in texts)
            rates[way].append(made / (time.perf_counter() - start))
    return [statistics.median(rates[way]) for way in (0, 1)]


if __name__ == "__main__":
    main()
