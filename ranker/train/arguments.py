"""What a training run was asked to do, as one value that is saved beside its result."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ranker.errors import UsageError
from ranker.model.base import DEFAULT_BASE
from ranker.model.losses import TAUGHT, loss_of

__all__ = ["TrainArguments"]


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Arguments of a training run.

    Attributes:
        base: the packaged MiniLM, a folder, or a Hugging Face id.
        query_slots: positions of the query part, CLS and SEP included.
        document_slots: positions of the document part, separators included.
        relevant: lowest grade of a document that answers its query.
        loss: bce, pairwise, listwise, lambda; margin-mse and distill learn from a teacher's
            scores, and the stage on the corpus, which has none, then learns with listwise.
        teacher: for those, a cross-encoder with one logit that scores every pair: a folder or a
            Hugging Face id.  None takes the scores of the data (`teacher_score`), so that groups
            hold judged documents only.
        epochs: passes over the judged positives.
        learning_rate: peak of the judged stage.
        groups: groups of one query in a step.
        negatives: documents in a group that do not answer it.
        random_negatives: how many of them are drawn from the whole corpus.
        depth: hard negatives come from the best `depth` documents of BM25.
        skip_top: unjudged documents among so many of the best are no negatives.
        margin: nor are those with more than this many times the positive's BM25 score; None for
            no such limit.
        refresh: choose the hard negatives of an epoch by what the model has learned by then: from
            the half of BM25's best that it ranks higher.
        logit_margin: with `refresh`, unjudged documents whose logit is above that of the positive
            minus this are no negatives; None for no such limit.
        warmup: whether a first stage learns from the corpus alone.
        warmup_steps: steps of that stage.
        warmup_learning_rate: its peak.
        synthetic: a file of synthetic queries (`query`, `doc_id`) for a stage between those two,
            at the learning rate of the first; None for no such stage.
        synthetic_rank: its queries are those with their own document in so many of BM25's best.
        synthetic_steps: most steps of that stage, which sees each of its queries at most once.
        schedule: decay of the learning rate after its warm-up.
        lr_warmup: share of the steps in which the learning rate rises.
        weight_decay: on all weights but biases and layer norms.
        clip: largest norm of the gradient.
        dropout: of the hidden states while training; attention has none.
        freeze: parts of the encoder that keep their weights.
        lora: rank of the adapters that learn in place of the encoder's weights; 0 for none.
        accumulate: parts that a step is computed in, one after the other, for less memory.
        gradient_checkpointing: compute activations twice instead of keeping them, for less memory.
        held_out: share of the judged queries that training does not see.
        evaluations: how often nDCG@10 is measured in an epoch.
        patience: evaluations without a better nDCG@10 before training stops.
        cv: folds of the cross-validation; 0 for none.
        precision: auto takes bfloat16 where the machine has it in hardware; fp16 is for GPUs.
        seed: of everything that is drawn.
    """

    base: str = DEFAULT_BASE
    query_slots: int = 32
    document_slots: int = 96
    relevant: int = 1
    loss: str = "listwise"
    teacher: str | None = None
    epochs: int = 3
    learning_rate: float = 5e-5
    groups: int = 8
    negatives: int = 5
    random_negatives: int = 0
    depth: int = 60
    skip_top: int = 0
    margin: float | None = None
    refresh: bool = False
    logit_margin: float | None = None
    warmup: bool = False
    warmup_steps: int = 300
    warmup_learning_rate: float = 1e-4
    synthetic: str | None = None
    synthetic_rank: int = 20
    synthetic_steps: int = 300
    schedule: Literal["linear", "cosine"] = "linear"
    lr_warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    dropout: float = 0.1
    freeze: Literal["none", "embeddings", "base"] = "none"
    lora: int = 0
    accumulate: int = 1
    gradient_checkpointing: bool = False
    held_out: float = 0.2
    evaluations: int = 1
    patience: int = 2
    cv: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        loss_of(self.loss)
        problems = [
            f"{name} must be {wanted}, got {getattr(self, name)}"
            for name, wanted, holds in _RULES
            if not holds(getattr(self, name))
        ]
        if self.random_negatives > self.negatives:
            problems.append(
                f"random_negatives {self.random_negatives} exceeds negatives {self.negatives}"
            )
        if self.skip_top >= self.depth:
            problems.append(f"skip_top {self.skip_top} leaves nothing of depth {self.depth}")
        if self.logit_margin is not None and not self.refresh:
            problems.append("logit_margin needs refresh: without it no logits are there")
        if self.refresh and self.loss in TAUGHT and self.teacher is None:
            problems.append(f"{self.loss} on scores of the data takes no negatives to refresh")
        if self.refresh and self.depth < 2:
            problems.append("refresh needs a depth of at least 2")
        if self.accumulate > self.groups:
            problems.append(
                f"accumulate {self.accumulate} exceeds groups {self.groups}: a part needs a group"
            )
        if self.lora and self.freeze != "none":
            problems.append("lora keeps the encoder's weights by itself; leave freeze at none")
        if self.teacher is not None and self.loss not in TAUGHT:
            known = " or ".join(sorted(TAUGHT))
            problems.append(f"the loss {self.loss} has no use for a teacher; choose {known}")
        if problems:
            raise UsageError("; ".join(problems))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _at_least(least: float) -> Any:
    return lambda value: value >= least


def _one_of(*values: str) -> Any:
    return lambda value: value in values


_RULES = [
    *[(name, "at least 1", _at_least(1)) for name in ("groups", "negatives", "depth", "patience")],
    ("accumulate", "at least 1", _at_least(1)),
    ("lora", "0 or more", _at_least(0)),
    ("logit_margin", "finite", lambda value: value is None or math.isfinite(value)),
    ("relevant", "at least 1", _at_least(1)),
    *[(name, "at least 1", _at_least(1)) for name in ("warmup_steps", "evaluations")],
    *[(name, "at least 1", _at_least(1)) for name in ("synthetic_rank", "synthetic_steps")],
    *[(name, "0 or more", _at_least(0)) for name in ("epochs", "random_negatives", "skip_top")],
    ("margin", "above 0 and finite", lambda value: value is None or 0 < value < math.inf),
    ("weight_decay", "0 or more and finite", lambda value: 0 <= value < math.inf),
    ("seed", "from 0 to below 2**32", lambda value: 0 <= value < 2**32),
    *[
        (name, "above 0 and finite", lambda value: 0 < value < math.inf)
        for name in ("learning_rate", "warmup_learning_rate", "clip")
    ],
    ("lr_warmup", "from 0 to below 1", lambda value: 0 <= value < 1),
    ("dropout", "from 0 to below 1", lambda value: 0 <= value < 1),
    ("cv", "0 or at least 2", lambda value: value == 0 or value >= 2),
    ("held_out", "between 0 and 1", lambda value: 0 < value < 1),
    ("schedule", "linear or cosine", _one_of("linear", "cosine")),
    ("freeze", "none, embeddings or base", _one_of("none", "embeddings", "base")),
    ("precision", "auto, fp32, bf16 or fp16", _one_of("auto", "fp32", "bf16", "fp16")),
]
