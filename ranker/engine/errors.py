"""What the engine answers when it cannot do what was asked: Vespa's codes, texts and statuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "DocumentError",
    "QueryError",
    "bad_in_cluster",
    "bad_query",
    "bad_yql",
    "http_status",
    "illegal_query",
    "json_type",
    "timed_out",
]

SUMMARIES = {
    3: "Illegal query",
    4: "Invalid query parameter",
    5: "Unspecified error",
    12: "Timed out",
    17: "Bad request.",
    18: "Internal server error.",
    19: "Insufficient storage",
}
"""The error codes that this engine uses (`container/protect/Error.java`)."""

STATUSES = {3: 400, 4: 400, 17: 400, 0: 503, 10: 503, 12: 504, 16: 404, 18: 500, 19: 507}
"""HTTP status of an error code (`VespaHeaders.java`); every other code is a 500."""


@dataclass
class QueryError(Exception):
    """A query that gets an error instead of an answer.

    Attributes:
        code: Vespa's error code.
        message: what is wrong.
        in_cluster: whether the content cluster says so, not the reader of the request; the
            answer then names the cluster as the error's source.
    """

    code: int
    message: str
    in_cluster: bool = False

    @property
    def summary(self) -> str:
        """Vespa's name of the code."""
        return SUMMARIES[self.code]


@dataclass
class DocumentError(Exception):
    """A document operation that gets an error instead of an answer."""

    status: int
    message: str


def illegal_query(message: str) -> QueryError:
    """Code 3: a parameter has a value that cannot be."""
    return QueryError(3, message)


def bad_query(message: str) -> QueryError:
    """Code 4: a parameter names something that is not there, or asks for what is not possible."""
    return QueryError(4, message)


def bad_in_cluster(message: str) -> QueryError:
    """Code 4, found by the content cluster: what the query asks of this schema is not there."""
    return QueryError(4, message, in_cluster=True)


def bad_yql(message: str) -> QueryError:
    """Code 4, with the words of Vespa's YQL parser."""
    return QueryError(4, f"Could not create query from YQL: {message}")


def timed_out(seconds: float, *, in_cluster: bool = True) -> QueryError:
    """Code 12: the query's time was over, before or while the cluster searched."""
    message = f"No time left after waiting for {seconds * 1000:.0f}ms to execute query"
    return QueryError(12, message, in_cluster)


def http_status(faults: Sequence[QueryError]) -> int:
    """The status of an answer: the first error decides."""
    return STATUSES.get(faults[0].code, 500) if faults else 200


def json_type(value: Any) -> str:
    """Return the name of a JSON value's type, for messages that say what was received."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"
