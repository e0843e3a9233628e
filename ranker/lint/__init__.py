"""The judgement linter: checks judged data for problems and shows examples.

`lint` runs the checks and returns a `LintReport`.  Each sort of check is a module with its `KINDS`
and its `find`.  Thresholds are chosen so that a clean collection has few findings.
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
