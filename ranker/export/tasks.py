"""What an export does for a task besides writing the graph and comparing its outputs.

To add a task, write its module next to `ranker.export.relevance`, and add an entry to `EXPORTS`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from ranker.artifacts.bundle import Checkpoint
from ranker.export import relevance
from ranker.model.task import RELEVANCE

__all__ = ["EXPORTS", "TaskExport"]


class TaskExport(Protocol):
    """A task's part of an export; a module may be one."""

    def pass_gate(self, checkpoint: Checkpoint, *, force: bool) -> bool:
        """Return True if the export has to be forced.

        Raises:
            ExportError: the model is not good enough, and the export is not forced.
        """
        ...

    def about(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """Return what bundle.json says of the model besides its provenance."""
        ...


EXPORTS: dict[str, TaskExport] = {RELEVANCE.name: relevance}
