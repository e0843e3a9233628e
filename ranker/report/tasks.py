"""What the page says of a trained model besides its arguments and data, by the task's name.

To add a task, write its module next to `ranker.report.relevance`, and add an entry to `REPORTS`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from ranker.artifacts.bundle import Bundle
from ranker.model.task import RELEVANCE, task_of
from ranker.report import relevance

__all__ = ["REPORTS", "TaskReport", "report_of", "report_of_bundle"]


class TaskReport(Protocol):
    """A task's part of the page; a module may be one.

    Attributes:
        CHOSEN: what training chooses on held-out queries, for a sentence.
    """

    CHOSEN: str

    def headline(self, training: Mapping[str, Any]) -> str:
        """Say in one sentence what training found on the queries that it held out."""
        ...

    def held_out(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """Return the table of held-out figures.

        Its keys are `measure`, `queries`, `of` (the header of the names), `rows`, each with
        `name`, `value` and `recommended`, and `note`, the line below.
        """
        ...

    def facts(self, training: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return terms with their descriptions for a training."""
        ...

    def calibration(self, training: Mapping[str, Any], *, ident: str) -> dict[str, Any] | None:
        """Return how good the model's probabilities are, or None if it has none.

        Its keys are `plot` (with ids that begin with `ident`), `note`, the line below, and
        `thresholds`, rows with `probability`, `precision`, `pairs` and `queries`.
        """
        ...

    def choice(self, training: Mapping[str, Any], *, on_this_page: bool) -> str:
        """Say how the recommended profile was chosen.

        Args:
            training: the training report, or what an existing cross-encoder has: its `origin`.
            on_this_page: whether training used queries whose figures the page shows.
        """
        ...

    def bundle_facts(self, bundle: Bundle) -> list[tuple[str, str]]:
        """Return terms with their descriptions for a bundle."""
        ...

    def bundle_summary(self, bundle: Bundle) -> dict[str, Any]:
        """Return what the page's JSON says of a bundle."""
        ...


REPORTS: dict[str, TaskReport] = {RELEVANCE.name: relevance}


def report_of(training: Mapping[str, Any]) -> TaskReport:
    """Return the part of the task of a training report."""
    return REPORTS[task_of(training).name]


def report_of_bundle(bundle: Bundle) -> TaskReport:
    """Return the part of the task of a bundle; older bundles do not name it."""
    return REPORTS[bundle.about.get("task", RELEVANCE.name)]
