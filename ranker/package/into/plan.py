"""Changes of an application that are worked out and checked, and not made yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranker.artifacts.installation import Installation
from ranker.package.into import diff, journal
from ranker.package.into.tree import Change

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """What putting a model into an application changes, or taking one out.

    Attributes:
        app: the application's folder.
        changes: what becomes of each file; none where all is as it should be.
        emptied: folders that go if nothing else is in them.
        installation: the model as it will be there, or as it was there.
        notes: what a person should know of it.
    """

    app: Path
    changes: Sequence[Change]
    emptied: tuple[str, ...]
    installation: Installation
    notes: tuple[str, ...] = ()

    def diff(self) -> str:
        """The changes as a unified diff; large and binary files by name and size."""
        return diff.unified(self.changes)

    def summary(self) -> list[str]:
        """One line for each changed file."""
        return [diff.headline(change) for change in self.changes]

    def apply(self) -> None:
        """Make all changes, or none of them.

        Raises:
            ArtifactError: a file cannot be written, or was changed since; nothing has changed.
        """
        if self.changes:
            journal.apply(self.app, self.changes, empty=self.emptied)
