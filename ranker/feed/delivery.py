"""One operation sent to the server: how many at once, what came of it, when to try again."""

import json
import random
import threading
from dataclasses import dataclass

from ranker.client.endpoint import Http, Response
from ranker.errors import EndpointError

__all__ = ["Outcome", "Window", "pause", "send"]

RETRYABLE = (429, 502, 503, 504)
"""Too many requests, nothing behind the gateway, not there yet, not in time.  Never 400 and 500,
which would come again, and never 507: the disk or the memory of the server is full."""

FIRST_WINDOW = 8
"""Requests at once to begin with."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one request.

    Attributes:
        status: the HTTP status; None where no whole response came.
        message: the server's message, or what happened to the connection.
        retry_after_s: seconds that the server asks to wait.
    """

    status: int | None
    message: str = ""
    retry_after_s: float = 0.0

    @property
    def ok(self) -> bool:
        """True if the server acknowledged the operation."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def retryable(self) -> bool:
        """True if the same request may succeed later."""
        return self.status is None or self.status in RETRYABLE

    @property
    def overload(self) -> bool:
        """True if the server asks for fewer requests at a time."""
        return self.status in (429, 503)


def send(path: str, body: bytes, http: Http, *, timeout_s: float) -> Outcome:
    """Put one document; never raise for what a server or a network does."""
    try:
        response = http.post(path, body, timeout_s=timeout_s)
    except EndpointError as error:
        return Outcome(None, f"no answer: {error.cause}")
    if 200 <= response.status < 300:
        return Outcome(response.status)
    return Outcome(response.status, _message(response), response.retry_after_s)


def _message(response: Response) -> str:
    """Return Vespa's message, or the beginning of any other body."""
    text = response.body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    message = value.get("message") if isinstance(value, dict) else None
    return " ".join(str(message or text).split())[:1000]


class Window:
    """A limit that grows while all goes well and halves when the server has too much to do.

    Additive increase, multiplicative decrease, as in TCP (Chiu and Jain 1989): one request more
    for each window of successes, half at the first refusal of a window.  Refusals of requests
    that were sent before that are not counted again.

    Args:
        most: the limit never exceeds this.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(min(FIRST_WINDOW, most))
        self._under_way = 0
        self._sent = 0
        self._halved_at = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """The number of requests that may be under way now."""
        return int(self._limit)

    def enter(self) -> int:
        """Wait for a place; return the ticket to leave with."""
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


def pause(attempt: int, *, retry_after_s: float = 0.0) -> float:
    """Return the seconds to wait after attempt 1, 2, … failed: exponential, with jitter.

    The jitter keeps clients that failed together from coming back together.
    """
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 30))
    return max(retry_after_s, longest * random.uniform(0.5, 1.0))
