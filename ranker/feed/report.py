"""The account of a feed: what became of every document that was read."""

import threading
import time
from array import array
from dataclasses import asdict, dataclass
from typing import Any

from ranker.errors import FeedError

__all__ = ["Failure", "FeedReport", "FeedTally"]

SHOWN = 3
"""Failures that the error message quotes."""


@dataclass(frozen=True)
class Failure:
    """A document that did not arrive.

    Attributes:
        document: the id of the document as the source has it.
        status: the server's last HTTP status; None where there was no response, or no request.
        message: the server's message, or why there was no request.
    """

    document: str
    status: int | None
    message: str

    def __str__(self) -> str:
        status = "" if self.status is None else f"HTTP {self.status}: "
        return f"{self.document!r} ({status}{self.message})"


@dataclass(frozen=True, kw_only=True)
class FeedReport:
    """The account of the documents that were read: `read == ok + len(failed)`, always.

    Attributes:
        read: documents taken from the source.
        ok: documents that the server acknowledged.
        failed: the others, each with its reason.
        retried: documents that took more than one request.
        sanitized: documents with characters that Vespa refuses, replaced by spaces.
        duplicates: documents with an id that an earlier one had; the last one of an id stays.
        seconds: from the first document to the last acknowledgement.
        stopped: why feeding ended before the source did, or None.
    """

    read: int
    ok: int
    failed: tuple[Failure, ...]
    retried: int
    sanitized: int
    duplicates: int
    seconds: float
    stopped: str | None

    @property
    def complete(self) -> bool:
        """True if the source was read to its end and every document arrived."""
        return self.stopped is None and not self.failed

    @property
    def documents_per_s(self) -> float:
        """Acknowledged documents per second."""
        return self.ok / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "documents_per_s": self.documents_per_s}

    def summary(self) -> str:
        """Return the account in one line."""
        parts = [
            f"{self.ok} of {self.read} documents acknowledged in {self.seconds:.1f} s "
            f"({self.documents_per_s:.0f}/s)"
        ]
        for count, word in (
            (len(self.failed), "not acknowledged"),
            (self.retried, "retried"),
            (self.sanitized, "sanitized (characters that Vespa refuses)"),
            (self.duplicates, "with an id seen before (the last one stays)"),
        ):
            if count:
                parts.append(f"{count} {word}")
        return ", ".join(parts)

    def require_complete(self) -> None:
        """Raise unless every document arrived.

        Raises:
            FeedError: feeding stopped early, or a document did not arrive.
        """
        if self.complete:
            return
        parts = [self.summary()]
        if self.stopped:
            parts.append(f"stopped: {self.stopped}")
        if self.failed:
            more = len(self.failed) - SHOWN
            quoted = "; ".join(str(failure) for failure in self.failed[:SHOWN])
            parts.append(quoted + (f"; and {more} more" if more > 0 else ""))
        parts.append("feeding the same documents again is safe")
        raise FeedError("; ".join(parts))


class FeedTally:
    """Counts while a feed runs.  Documents are read in one thread, and finish in any."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.read = 0
        self.ok = 0
        self.failed: list[Failure] = []
        self.newest = ""
        self.last_ok = self.start
        self._retried = 0
        self._sanitized = 0
        # 8 bytes a document: a set of the ids themselves would take a hundred.  Two ids share a
        # hash in one of 37 million feeds of a million documents.
        self._hashes = array("q")
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        """The number of documents whose outcome is known."""
        return self.ok + len(self.failed)

    def add(self, document: str, *, sanitized: bool) -> None:
        """Count a document that was read."""
        self.newest = document
        self.read += 1
        self._sanitized += sanitized
        self._hashes.append(hash(document))

    def acknowledge(self, *, attempts: int) -> None:
        """Count a document that the server has."""
        with self._lock:
            self.ok += 1
            self.last_ok = time.monotonic()
            self._retried += attempts > 1

    def fail(self, failure: Failure, *, attempts: int = 0) -> None:
        """Count a document that did not arrive."""
        with self._lock:
            self.failed.append(failure)
            self._retried += attempts > 1

    def report(self, stopped: str | None) -> FeedReport:
        """Return the account at the end, when no request is under way."""
        if self.read > self.done:  # Ctrl-C came between reading a document and queueing it
            self.fail(Failure(self.newest, None, "not sent: feeding stopped"))
        return FeedReport(
            read=self.read,
            ok=self.ok,
            failed=tuple(self.failed),
            retried=self._retried,
            sanitized=self._sanitized,
            duplicates=self._duplicates(),
            seconds=time.monotonic() - self.start,
            stopped=stopped,
        )

    def _duplicates(self) -> int:
        import numpy as np  # 170 ms to import

        hashes = np.sort(np.frombuffer(self._hashes, dtype=np.int64))
        return int(np.count_nonzero(hashes[1:] == hashes[:-1]))
