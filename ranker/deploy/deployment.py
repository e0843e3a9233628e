"""The result of a deployment: where the application answers, and the target's messages."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Deployment", "Say", "silent"]

Say = Callable[[str], None]
"""Called with one line of progress at a time."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A deployed application.

    Attributes:
        target: the target's name.
        url: address for documents and queries.
        message: the target's own message, or what to do next.
        warnings: warnings that the target logged, and actions that it requires.
        pid: process id of the embedded engine.
        log: log file of the embedded engine.
        process: the embedded engine, as a child of this process.
    """

    target: str
    url: str
    message: str
    warnings: tuple[str, ...] = ()
    pid: int | None = None
    log: Path | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False, compare=False)

    def __enter__(self) -> "Deployment":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the embedded engine, if this process started it; other targets keep running."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "target": self.target,
            "url": self.url,
            "message": self.message,
            "warnings": list(self.warnings),
            "pid": self.pid,
            "log": None if self.log is None else str(self.log),
        }


def silent(line: str) -> None:
    """Ignore a line of progress."""
