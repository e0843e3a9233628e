"""The time limit of a query."""

import time
from collections.abc import Callable

from ranker.engine.errors import timed_out

__all__ = ["Timer"]


class Timer:
    """Counts down from a query's timeout.

    Args:
        timeout_s: seconds from the start.
        start: when the request arrived, by the clock; now by default.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        start: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._start = clock() if start is None else start

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def check(self, *, in_cluster: bool = True) -> None:
        """Return if there is time left.

        Args:
            in_cluster: True if the search has begun.

        Raises:
            QueryError: code 12, the query has timed out.
        """
        elapsed_s = self.elapsed_s
        if elapsed_s >= self._timeout_s:
            raise timed_out(elapsed_s, in_cluster=in_cluster)
