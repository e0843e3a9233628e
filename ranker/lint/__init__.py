"""The judgement linter: what makes judged data worth less than it seems, with examples.

`lint` looks, `LintReport` says; a module for each sort of check, each with its `KINDS` and its
`find`.  Thresholds are chosen so that a clean collection gives few findings.
"""

from ranker.lint.collection import Collection, collection_of, read_collection
from ranker.lint.finding import Example, Finding, LintReport
from ranker.lint.linter import lint

__all__ = [
    "Collection",
    "Example",
    "Finding",
    "LintReport",
    "collection_of",
    "lint",
    "read_collection",
]
