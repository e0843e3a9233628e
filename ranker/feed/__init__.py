"""Feeding: a document becomes a pretokenized operation; a stream of them reaches the server.

Every document is accounted for: acknowledged, or in the report with a status and a reason.
"""

from ranker.feed.operation import SchemaDocument, operations, write_operations
from ranker.feed.reading import read_documents
from ranker.feed.report import Failure, FeedReport
from ranker.feed.stream import feed

__all__ = [
    "Failure",
    "FeedReport",
    "SchemaDocument",
    "feed",
    "operations",
    "read_documents",
    "write_operations",
]
