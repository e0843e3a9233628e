"""What a deployment leaves: where the application answers, and what the target had to say."""

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
        target: one of the targets' names.
        url: where it takes documents and queries.
        message: the target's own words, or how to go on.
        warnings: lines of level WARNING that the target logged, and changes that it asks for.
        pid: process id of the embedded engine.
        log: file with the embedded engine's log.
        process: the embedded engine as this process's child.
    """

    target: str
    url: str
    message: str
    warnings: tuple[str, ...] = ()
    pid: int | None = None
    log: Path | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False, compare=False)

    def stop(self) -> None:
        """Stop the embedded engine, if this process started it; other targets keep running."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "target": self.target,
            "url": self.url,
            "message": self.message,
            "warnings": list(self.warnings),
            "pid": self.pid,
            "log": None if self.log is None else str(self.log),
        }


def silent(line: str) -> None:
    """Says nothing."""
