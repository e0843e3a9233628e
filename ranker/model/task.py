"""What a model is trained for.

A `Task` is known by the name that training.json keeps.  Folders that come later have a part of
their own for it, found by the same name: `ranker.train.tasks` for what training measures and
learns besides the weights, `ranker.model.card` for the words of the model card,
`ranker.export.tasks` for what an export checks and passes on, and `ranker.report.tasks` for the
words of the page.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ranker.model.losses import LOSSES, Loss

__all__ = ["RELEVANCE", "TASKS", "Task", "task_of"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model says of a query and a document, and how it learns to.

    Attributes:
        name: its name in every table of tasks.
        outputs: number of values in the model's head.
        losses: what can be minimised, by name.
        default_loss: the loss of stages without a teacher's scores, if the chosen one needs them.
        logits: what a loss takes of the outputs [..., outputs].
        score: the score of each pair [...] of the outputs [..., outputs], by which a query's
            documents can be ranked; higher is more relevant.
    """

    name: str
    outputs: int
    losses: Mapping[str, Loss]
    default_loss: str
    logits: Callable[[Any], Any]
    score: Callable[[Any], Any]


def _only(outputs: Any) -> Any:
    """Return the only output of each pair, of numpy's arrays as of torch's tensors."""
    return outputs[..., 0]


RELEVANCE = Task(
    name="relevance",
    outputs=1,
    losses=LOSSES,
    default_loss="listwise",
    logits=_only,
    score=_only,
)
"""How relevant a document is to a query: one logit."""
TASKS = {RELEVANCE.name: RELEVANCE}


def task_of(training: Mapping[str, Any]) -> Task:
    """Return the task of a training report; an existing cross-encoder scores relevance."""
    return TASKS[training.get("arguments", {}).get("task", RELEVANCE.name)]
