"""How many requests may be under way, and how long to wait before the next try."""

import random
import threading

__all__ = ["Window", "pause"]

START = 8
"""Requests at once to begin with."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 10.0


class Window:
    """A limit that grows while all goes well and halves when the server has too much to do.

    Additive increase, multiplicative decrease, as in TCP (Chiu and Jain 1989): one request more
    for each window of successes; the half at the first refusal of a window, the refusals of
    requests sent before that are not counted again.

    Args:
        most: the limit never exceeds this.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(min(START, most))
        self._under_way = 0
        self._sent = 0
        self._halved_at = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    def enter(self) -> int:
        """Wait for a place; the ticket to leave with."""
        with self._changed:
            while self._under_way >= self.limit:
                self._changed.wait()
            self._under_way += 1
            self._sent += 1
            return self._sent

    def leave(self, ticket: int, *, ok: bool, overload: bool) -> None:
        """Give the place back, with what the request says about the limit."""
        with self._changed:
            self._under_way -= 1
            if ok:
                self._limit = min(self._most, self._limit + 1 / self._limit)
            elif overload and ticket > self._halved_at:
                self._limit = max(1.0, self._limit / 2)
                self._halved_at = self._sent
            self._changed.notify(2)


def pause(attempt: int, *, retry_after: float = 0.0) -> float:
    """Seconds to wait after the given attempt (1, 2, …) failed: exponential, with jitter.

    The jitter keeps clients that failed together from coming back together.
    """
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 30))
    return max(retry_after, longest * random.uniform(0.5, 1.0))
