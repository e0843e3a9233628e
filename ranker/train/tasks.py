"""What training does for a task besides minimising its loss, by the task's name.

A task names the measure that training stops by, says what is known of a model from held-out
queries, and may be cross-validated.  To add one, write its module next to
`ranker.train.relevance`, and add an entry to `TRAININGS`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ranker.dataset import Dataset
from ranker.model.task import RELEVANCE
from ranker.train import relevance
from ranker.train.loop import StageResult
from ranker.train.reranking import Measure
from ranker.train.stages import Stages

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["TRAININGS", "CrossValidated", "TaskTraining"]


class CrossValidated(Protocol):
    """What a cross-validation leaves for the final model, which learns from all queries.

    Attributes:
        before: the stages that use no judgement, which the folds share with the final model.
        weights: what the last of them left; None without such a stage.
        steps: how many steps the final model learns from judgements.
        schedule: in how many its learning rate falls to 0.
    """

    @property
    def before(self) -> list[StageResult]: ...  # noqa: D102 - see the class

    @property
    def weights(self) -> Path | None: ...  # noqa: D102

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def schedule(self) -> int: ...  # noqa: D102

    def report(self) -> dict[str, Any]:
        """Return what training.json says: the keys of `conclude`, and `cv`."""
        ...

    def files(self) -> dict[str, str]:
        """Return the texts of the folder `cv` in the checkpoint, by name."""
        ...


class TaskTraining(Protocol):
    """A task's part of training; a module may be one."""

    MEASURE: Measure

    def conclude(self, stages: Stages, forward: "Module", held_out: Dataset) -> dict[str, Any]:
        """Return what training.json says of a model: `held_out`, `gate` and what was calibrated."""
        ...

    def cross_validate(
        self, stages: Stages, dataset: Dataset, directory: Path, *, workers: int
    ) -> CrossValidated:
        """Train and measure in folds; what an interrupted run left in `directory` is kept.

        Raises:
            UsageError: the task has no cross-validation.
        """
        ...

    def summary(self, report: Mapping[str, Any]) -> tuple[list[str], list[list[str]], str]:
        """Return a table's header, its rows and the line below, for people who trained a model."""
        ...


TRAININGS: dict[str, TaskTraining] = {RELEVANCE.name: relevance}
