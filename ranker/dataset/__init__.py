"""Judged data: read in every usual format, checked row by row, split by query.

`load` returns a whole collection with its judgements, `read_corpus` a stream of documents.  Each
format is a `Source` in a file of its own (`formats.SOURCES`); rows that cannot be used are errors
with file, line and reason, or are counted and listed.
"""

from ranker.dataset.collection import Dataset, require_trainable
from ranker.dataset.loading import default_split, load, read_corpus, split_names
from ranker.dataset.splits import split_queries

__all__ = [
    "Dataset",
    "default_split",
    "load",
    "read_corpus",
    "require_trainable",
    "split_names",
    "split_queries",
]
