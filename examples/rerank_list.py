"""Rerank a list of texts for a query, without a search engine.

python examples/rerank_list.py BUNDLE "copy a folder"

BUNDLE is the folder of `ranker export`, a checkpoint, or a Hugging Face id of a cross-encoder.
The texts are read from standard input, one a line.
"""

import sys

import ranker


def main(model: str, query: str) -> None:
    """Print the texts of standard input, best first, with their scores."""
    texts = [line.strip() for line in sys.stdin if line.strip()]
    for ranked in ranker.Reranker(model).rank(query, texts, top_k=10):
        print(f"{ranked.score:8.3f}  {ranked.text}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except ranker.RankerError as error:
        sys.exit(f"error: {error}")
