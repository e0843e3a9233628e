"""The arguments of a training run: one value that is saved with its result.

Each argument is stated once, as a field of `TrainArguments`: its default, its help, its panel on
the command line and the rule that its value keeps.  The options of `ranker train` are made from
these fields.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

from ranker.errors import UsageError
from ranker.model.heads.similarity import HeadChoice
from ranker.model.hub import DEFAULT_BASE
from ranker.model.losses import LOSSES
from ranker.model.task import RELEVANCE, TASKS

__all__ = ["Option", "TrainArguments", "options"]

T = TypeVar("T")
Panel = Literal["Data", "Model", "Training", "Negatives", "Evaluation", "Hardware"]


@dataclass(frozen=True)
class Rule:
    """A condition on a value, and the words for it."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Option:
    """What is said of an argument besides its name, type and default.

    Attributes:
        help: a sentence for the command line.
        panel: the group of options it is listed in.
        rule: what its value must satisfy unless it is None.
    """

    help: str
    panel: Panel
    rule: Rule | None = None


def _argument(default: T, help: str, *, panel: Panel, rule: Rule | None = None) -> T:
    return field(default=default, metadata={"option": Option(help, panel, rule)})


_ONE_OR_MORE = Rule("at least 1", lambda value: value >= 1)
_ZERO_OR_MORE = Rule("0 or more", lambda value: value >= 0)
_FINITE = Rule("finite", math.isfinite)
_POSITIVE = Rule("above 0 and finite", lambda value: 0 < value < math.inf)
_SHARE = Rule("from 0 to below 1", lambda value: 0 <= value < 1)
_TAUGHT = " and ".join(name for name, loss in LOSSES.items() if loss.needs_teacher)


_KINDS: dict[object, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "True or False"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a string"),
}


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Everything that decides the result of a training run, except its data and the machine.

    Raises:
        UsageError: values that are out of range or contradict each other; lists all of them.
    """

    task: str = _argument(
        RELEVANCE.name, "What the model learns to say of a document.", panel="Model"
    )
    min_grade: int = _argument(1, "Minimum grade of a positive.", panel="Data", rule=_ONE_OR_MORE)
    synthetic: str | None = _argument(
        None,
        "CSV, TSV or JSONL file of synthetic queries (columns query, doc_id) to learn from before "
        "the judged ones.",
        panel="Data",
    )
    synthetic_rank: int = _argument(
        20,
        "Use only synthetic queries whose source document is in BM25's top N.",
        panel="Data",
        rule=_ONE_OR_MORE,
    )

    base: str = _argument(DEFAULT_BASE, "Base model: a folder or a Hugging Face id.", panel="Model")
    head: HeadChoice = _argument(
        "auto",
        "What the logit is computed from: similarity (of the query's part of the pair and the "
        "document's), cls (a new layer on the CLS token), or auto: similarity for a sentence "
        "encoder with mean pooling, the head that a cross-encoder has, else cls.",
        panel="Model",
    )
    query_slots: int = _argument(
        32, "Token slots of the query, including CLS and SEP.", panel="Model"
    )
    document_slots: int = _argument(
        96, "Token slots of the document, including its separators.", panel="Model"
    )
    teacher: str | None = _argument(
        None,
        f"Cross-encoder or sentence encoder whose scores {_TAUGHT} learn from: a folder or a "
        "Hugging Face id; without one they need a teacher_score in the data.",
        panel="Model",
    )
    freeze: Literal["none", "embeddings", "base"] = _argument(
        "none", "Part of the encoder whose weights stay fixed.", panel="Model"
    )
    lora_rank: int = _argument(
        0,
        "Train LoRA adapters of this rank in place of the encoder's weights; 0 for none.",
        panel="Model",
        rule=_ZERO_OR_MORE,
    )
    dropout: float = _argument(
        0.1, "Dropout of hidden states during training.", panel="Model", rule=_SHARE
    )

    loss: str = _argument(
        "listwise",
        f"Loss to minimise: {', '.join(LOSSES)}; {_TAUGHT} learn from a teacher's scores.",
        panel="Training",
    )
    epochs: int = _argument(
        3, "Passes over the judged positives.", panel="Training", rule=_ZERO_OR_MORE
    )
    learning_rate: float = _argument(
        5e-5, "Peak learning rate on judged queries.", panel="Training", rule=_POSITIVE
    )
    batch_size: int = _argument(8, "Queries in a step.", panel="Training", rule=_ONE_OR_MORE)
    pretrain: bool = _argument(
        False,
        "Pretrain on the corpus before learning from judgements, until queries made from held-out "
        "documents are answered no better.",
        panel="Training",
    )
    pretrain_steps: int = _argument(
        300, "Maximum number of steps of corpus pretraining.", panel="Training", rule=_ONE_OR_MORE
    )
    pretrain_learning_rate: float = _argument(
        1e-4,
        "Peak learning rate of corpus pretraining and of synthetic queries.",
        panel="Training",
        rule=_POSITIVE,
    )
    synthetic_steps: int = _argument(
        300,
        "Maximum number of steps on synthetic queries, each of which is used at most once.",
        panel="Training",
        rule=_ONE_OR_MORE,
    )
    schedule: Literal["linear", "cosine"] = _argument(
        "linear", "Decay of the learning rate after its warm-up.", panel="Training"
    )
    warmup_ratio: float = _argument(
        0.1, "Share of the steps in which the learning rate rises.", panel="Training", rule=_SHARE
    )
    weight_decay: float = _argument(
        0.01,
        "Weight decay of AdamW on all weights except biases and layer norms.",
        panel="Training",
        rule=Rule("0 or more and finite", lambda value: 0 <= value < math.inf),
    )
    max_grad_norm: float = _argument(
        1.0, "Norm to which gradients are clipped.", panel="Training", rule=_POSITIVE
    )
    seed: int = _argument(
        0,
        "Seed of everything that is random.",
        panel="Training",
        rule=Rule("from 0 to below 2**32", lambda value: 0 <= value < 2**32),
    )

    negatives: int = _argument(
        5, "Negatives for each positive.", panel="Negatives", rule=_ONE_OR_MORE
    )
    random_negatives: int = _argument(
        0,
        "Number of the negatives that are sampled from the whole corpus.",
        panel="Negatives",
        rule=_ZERO_OR_MORE,
    )
    negatives_depth: int = _argument(
        60,
        "Sample hard negatives from BM25's top N documents.",
        panel="Negatives",
        rule=_ONE_OR_MORE,
    )
    skip_top: int = _argument(
        0,
        "Skip unjudged documents among BM25's top N.",
        panel="Negatives",
        rule=_ZERO_OR_MORE,
    )
    max_score_ratio: float | None = _argument(
        None,
        "Skip unjudged documents with a BM25 score above X times the positive's, 0.95 for example.",
        panel="Negatives",
        rule=_POSITIVE,
    )
    remine_negatives: bool = _argument(
        False,
        "Choose the hard negatives of each epoch by the scores of the model trained so far.",
        panel="Negatives",
    )
    logit_margin: float | None = _argument(
        None,
        "Skip unjudged documents with a logit above the positive's minus X; needs "
        "--remine-negatives.",
        panel="Negatives",
        rule=_FINITE,
    )

    cv: int = _argument(
        0,
        "Folds of the cross-validation that the verdict of the ship gate rests on; 0 for none.",
        panel="Evaluation",
        rule=Rule("0 or at least 2", lambda value: value == 0 or value >= 2),
    )
    held_out: float = _argument(
        0.2,
        "Share of the judged queries held out for early stopping; with --cv, inside each fold.",
        panel="Evaluation",
        rule=Rule("between 0 and 1", lambda value: 0 < value < 1),
    )
    evaluations: int = _argument(
        1, "Evaluations in an epoch.", panel="Evaluation", rule=_ONE_OR_MORE
    )
    patience: int = _argument(
        2,
        "Stop after N evaluations without an improvement.",
        panel="Evaluation",
        rule=_ONE_OR_MORE,
    )

    precision: Literal["auto", "fp32", "bf16", "fp16"] = _argument(
        "auto",
        "Number format to compute in: auto takes bf16 where the hardware has it, fp16 needs a GPU.",
        panel="Hardware",
    )
    gradient_accumulation_steps: int = _argument(
        1,
        "Parts that a step is computed in to save memory; the step remains the same.",
        panel="Hardware",
        rule=_ONE_OR_MORE,
    )
    gradient_checkpointing: bool = _argument(
        False,
        "Save memory by computing activations twice, which takes about a third more time.",
        panel="Hardware",
    )

    def __post_init__(self) -> None:
        # A rule may fail on a value of another type, so types come first.
        problems = self._wrong_types() or [*self._broken_rules(), *self._contradictions()]
        if problems:
            raise UsageError("; ".join(problems))

    def _wrong_types(self) -> list[str]:
        problems = []
        for argument in fields(self):
            value, types = getattr(self, argument.name), get_args(argument.type)
            kind = types[0] if types else argument.type
            if (value is None and type(None) in types) or kind not in _KINDS:
                continue  # absent, or one of some words, which a rule checks
            accepted, words = _KINDS[kind]
            if type(value) not in accepted:
                problems.append(f"{argument.name} must be {words}, got {value!r}")
        return problems

    def _broken_rules(self) -> list[str]:
        problems = []
        for argument in fields(self):
            value, rule = getattr(self, argument.name), argument.metadata["option"].rule
            if choices := get_args(argument.type):
                if isinstance(choices[0], str):
                    words = f"{', '.join(choices[:-1])} or {choices[-1]}"
                    rule = Rule(words, choices.__contains__)
            if rule and value is not None and not rule.holds(value):
                problems.append(f"{argument.name} must be {rule.words}, got {value}")
        return problems

    def _contradictions(self) -> list[str]:
        task = TASKS.get(self.task)
        if task is None:
            return [f"task must be one of {', '.join(TASKS)}, got {self.task}"]
        if self.loss not in task.losses:
            return [f"loss must be one of {', '.join(task.losses)}, got {self.loss}"]
        needs_teacher = task.losses[self.loss].needs_teacher
        conditions = {
            f"random_negatives {self.random_negatives} exceeds negatives {self.negatives}": (
                self.random_negatives > self.negatives
            ),
            f"skip_top {self.skip_top} leaves nothing of negatives_depth {self.negatives_depth}": (
                self.skip_top >= self.negatives_depth
            ),
            "logit_margin needs remine_negatives: without it there are no logits to compare": (
                self.logit_margin is not None and not self.remine_negatives
            ),
            f"remine_negatives has no effect on {self.loss} without a teacher, which learns from "
            "judged documents only": (
                self.remine_negatives and needs_teacher and self.teacher is None
            ),
            "remine_negatives needs a negatives_depth of at least 2": (
                self.remine_negatives and self.negatives_depth < 2
            ),
            f"gradient_accumulation_steps {self.gradient_accumulation_steps} exceeds batch_size "
            f"{self.batch_size}: each part needs a query": (
                self.gradient_accumulation_steps > self.batch_size
            ),
            "lora_rank already keeps the encoder's weights fixed; leave freeze at none": (
                bool(self.lora_rank) and self.freeze != "none"
            ),
            f"the loss {self.loss} does not use a teacher; choose {_TAUGHT.replace('and', 'or')}": (
                self.teacher is not None and not needs_teacher
            ),
        }
        return [words for words, holds in conditions.items() if holds]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def options() -> dict[str, Option]:
    """Return what is said of each argument, by its name."""
    return {argument.name: argument.metadata["option"] for argument in fields(TrainArguments)}
