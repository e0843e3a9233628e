"""Ranking losses over groups of documents of one query.

A `Loss` says what is computed and from which targets.  All functions have one form: `logits`
[groups, documents] float, `targets` [groups, documents] float, `mask` [groups, documents] bool
(False where a group has fewer documents); they return the mean loss as a scalar.  To add a loss,
write its function and add one entry to `LOSSES`.

Each function imports torch itself: its callers have tensors, while the command line needs only the
names of the losses and starts without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from ranker.dataset.groups import TrainingGroup

__all__ = [
    "LOSSES",
    "Loss",
    "LossFunction",
    "Targets",
    "binary",
    "binary_cross_entropy",
    "grades",
    "lambda_ndcg",
    "listwise_softmax",
    "margin_mse",
    "pairwise_logistic",
    "softmax_distillation",
    "teacher_scores",
]

LossFunction: TypeAlias = "Callable[[Tensor, Tensor, Tensor], Tensor]"
Targets: TypeAlias = "Callable[[TrainingGroup, int], Sequence[float]]"

MU = 10.0
"""Weight of the two parts of `lambda_ndcg`, as in the paper's experiments."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a model minimises.

    Attributes:
        function: the loss of logits [groups, documents], targets and mask of the same shape.
        targets: what it learns from: the targets of a group's documents, given the minimum grade
            of a positive.
        needs_teacher: the targets are a teacher's scores, so a stage without them needs another
            loss.
    """

    function: LossFunction
    targets: Targets
    needs_teacher: bool = False


def grades(group: TrainingGroup, min_grade: int) -> Sequence[float]:
    """Return the grades themselves."""
    return group.grades


def binary(group: TrainingGroup, min_grade: int) -> Sequence[float]:
    """Return 1 for each document of at least this grade, else 0."""
    return [float(grade >= min_grade) for grade in group.grades]


def teacher_scores(group: TrainingGroup, min_grade: int) -> Sequence[float]:
    """Return the teacher's scores."""
    assert group.teacher_scores is not None, "the stage scores every group before it is stored"
    return group.teacher_scores


def binary_cross_entropy(logits: Tensor, relevant: Tensor, mask: Tensor) -> Tensor:
    """Score each document by itself: 1 for a relevant one, 0 for another.

    Nogueira and Cho 2019, Passage Re-ranking with BERT, arXiv:1901.04085, equation 1.
    """
    from torch.nn import functional

    losses = functional.binary_cross_entropy_with_logits(logits, relevant, reduction="none")
    return losses[mask].mean()


def pairwise_logistic(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Score the higher one of every pair of documents with different grades higher.

    RankNet, Burges et al. 2005, Learning to Rank using Gradient Descent, with target
    probability 1.  Each group counts the same; a group without such a pair counts 0.
    """
    from torch.nn import functional

    margin = logits.unsqueeze(2) - logits.unsqueeze(1)
    higher = targets.unsqueeze(2) > targets.unsqueeze(1)
    pairs = (higher & mask.unsqueeze(2) & mask.unsqueeze(1)).to(logits.dtype)
    losses = functional.softplus(-margin) * pairs
    return (losses.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()


def listwise_softmax(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Return the cross-entropy of the grades' shares of a group and the softmax of its logits.

    The top-one form of ListNet, Cao et al. 2007, with the grades themselves as gains, as in
    Bruch et al. 2019 (An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank).
    """
    import torch

    scores = torch.log_softmax(logits.masked_fill(~mask, float("-inf")), dim=1)
    gains = targets * mask
    share = gains / gains.sum(1, keepdim=True).clamp(min=1e-9)
    return -(share * scores.masked_fill(~mask, 0.0)).sum(1).mean()


def lambda_ndcg(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Weight each pair of different grades by what swapping it does to nDCG.

    NDCG-Loss2++ of Wang et al. 2018, The LambdaLoss Framework for Ranking Metric Optimization,
    with mu 10.  The gain is the grade itself, as in the nDCG that ranker reports.  Summed over
    the pairs of a group, mean over the groups.
    """
    import torch

    order = logits.masked_fill(~mask, float("-inf")).argsort(dim=1, descending=True, stable=True)
    scores, gains = logits.gather(1, order), (targets * mask).gather(1, order)
    places = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype)
    ideal = ((targets * mask).sort(dim=1, descending=True).values / torch.log2(1 + places)).sum(1)
    gains = gains / ideal.clamp(min=1e-9).unsqueeze(1)
    weights = (gains.unsqueeze(2) - gains.unsqueeze(1)).clamp(min=0) * _swap_weights(places)
    present = mask.gather(1, order)
    pairs = weights * (present.unsqueeze(2) & present.unsqueeze(1))
    margin = scores.unsqueeze(2) - scores.unsqueeze(1)
    # In bits, as the paper writes it.
    losses = torch.nn.functional.softplus(-margin) / math.log(2)
    return (losses * pairs).sum((1, 2)).mean()


def _swap_weights(places: Tensor) -> Tensor:
    """Return the pair weights [documents, documents] as far as they depend on ranks alone."""
    import torch

    discounts = 1 / torch.log2(1 + places)
    rank = (discounts.unsqueeze(1) - discounts.unsqueeze(0)).abs()
    apart = (places.unsqueeze(1) - places.unsqueeze(0)).abs().clamp(min=1)
    between = 1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)
    return rank + MU * between


def margin_mse(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Fit the differences of scores in a group to those of the teacher.

    Hofstätter et al. 2020, Improving Efficient Neural Ranking Models with Cross-Architecture
    Knowledge Distillation, arXiv:2010.02666; with two documents in a group it is their loss,
    with more the mean over all pairs.
    """
    import torch

    error = (logits - teacher).masked_fill(~mask, 0.0)
    upper = torch.ones(2 * error.shape[1:], dtype=torch.bool, device=mask.device).triu(1)
    pairs = mask.unsqueeze(2) & mask.unsqueeze(1) & upper
    squares = (error.unsqueeze(2) - error.unsqueeze(1)).square() * pairs
    return (squares.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()


def softmax_distillation(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the cross-entropy of the softmax of the teacher's scores and that of the logits.

    Hinton et al. 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531, over the
    documents of a query (temperature 1).
    """
    import torch

    scores = torch.log_softmax(logits.masked_fill(~mask, float("-inf")), dim=1)
    share = torch.softmax(teacher.masked_fill(~mask, float("-inf")), dim=1)
    return -(share * scores.masked_fill(~mask, 0.0)).sum(1).mean()


LOSSES = {
    "bce": Loss(function=binary_cross_entropy, targets=binary),
    "pairwise": Loss(function=pairwise_logistic, targets=grades),
    "listwise": Loss(function=listwise_softmax, targets=grades),
    "lambda": Loss(function=lambda_ndcg, targets=grades),
    "margin-mse": Loss(function=margin_mse, targets=teacher_scores, needs_teacher=True),
    "distill": Loss(function=softmax_distillation, targets=teacher_scores, needs_teacher=True),
}
