"""Errors of the engine's APIs: Vespa's codes and HTTP statuses, in the engine's own words."""

from dataclasses import dataclass

__all__ = ["DocumentError", "QueryError", "bad_query", "illegal_query", "timed_out"]

CODES = {
    0: ("No backends in service. Try later", 503),
    3: ("Illegal query", 400),
    4: ("Invalid query parameter", 400),
    12: ("Timed out", 504),
    17: ("Bad request.", 400),
    18: ("Internal server error.", 500),
}
"""Vespa's code of a search error: its summary and the HTTP status that goes with it."""


@dataclass
class QueryError(Exception):
    """A query that is answered with an error.

    Attributes:
        code: Vespa's error code.
        message: what is wrong, and what was expected.
        in_cluster: True if Vespa leaves this check to the content cluster; the response then names
            the cluster as the error's source.
    """

    code: int
    message: str
    in_cluster: bool = False

    @property
    def summary(self) -> str:
        """Vespa's name of the code."""
        return CODES[self.code][0]

    @property
    def status(self) -> int:
        """The HTTP status of the response."""
        return CODES[self.code][1]


@dataclass
class DocumentError(Exception):
    """A document operation that is answered with an error and this HTTP status."""

    status: int
    message: str


def illegal_query(message: str, *, in_cluster: bool = False) -> QueryError:
    """Return an error of code 3: a parameter has an impossible value."""
    return QueryError(3, message, in_cluster)


def bad_query(message: str, *, in_cluster: bool = False) -> QueryError:
    """Return an error of code 4: the query names something unknown or asks for the impossible."""
    return QueryError(4, message, in_cluster)


def timed_out(elapsed_s: float, *, in_cluster: bool = True) -> QueryError:
    """Return an error of code 12: the query's time was used up, before or during the search."""
    message = f"no time left after {elapsed_s * 1000:.0f} ms; raise 'timeout' to allow more"
    return QueryError(12, message, in_cluster)
