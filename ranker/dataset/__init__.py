"""Judged data: read in every usual form, checked row by row, split by query.

`load` gives a whole collection with its judgements, `read_corpus` a stream of documents.  Each
form is one `Source` in a file of its own; rows that cannot be used are errors with file, line
and reason, or are counted and listed.
"""

from ranker.dataset.collection import Dataset, require_trainable
from ranker.dataset.loading import FORMATS, default_split, load, read_corpus, split_names
from ranker.dataset.splits import split_queries

__all__ = [
    "FORMATS",
    "Dataset",
    "default_split",
    "load",
    "read_corpus",
    "require_trainable",
    "split_names",
    "split_queries",
]
