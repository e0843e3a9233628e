"""Ranking losses over groups of documents of one query.

All have one form: `logits` [groups, documents] float, `target` [groups, documents] float (the
grades, or a teacher's scores for the losses in `TAUGHT`), `mask` [groups, documents] bool (False
where a group has fewer documents), and give the mean loss as a scalar.
"""

import math
from collections.abc import Callable
from typing import Any

from ranker.errors import UsageError, require

__all__ = [
    "LOSSES",
    "TAUGHT",
    "Loss",
    "binary_cross_entropy",
    "lambda_ndcg",
    "listwise_softmax",
    "loss_of",
    "margin_mse",
    "pairwise_logistic",
    "softmax_distillation",
]

Tensor = Any
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

MU = 10.0
"""Weight of the two parts of `lambda_ndcg`, as in the paper's experiments."""


def binary_cross_entropy(logits: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """Each document by itself: relevant (grade above 0) or not.

    Nogueira and Cho 2019, Passage Re-ranking with BERT, arXiv:1901.04085, equation 1.
    """
    functional = require("torch.nn.functional", extra="train")
    target = (relevance > 0).to(logits.dtype)
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return losses[mask].mean()


def pairwise_logistic(logits: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """Every pair of documents with different grades: the higher one should score higher.

    RankNet, Burges et al. 2005, Learning to Rank using Gradient Descent, with target
    probability 1.  Each group counts the same; a group without such a pair counts 0.
    """
    functional = require("torch.nn.functional", extra="train")
    margin = logits.unsqueeze(2) - logits.unsqueeze(1)
    higher = relevance.unsqueeze(2) > relevance.unsqueeze(1)
    pairs = (higher & mask.unsqueeze(2) & mask.unsqueeze(1)).to(logits.dtype)
    losses = functional.softplus(-margin) * pairs
    return (losses.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()


def listwise_softmax(logits: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy between the grades' share of the group and the softmax of the logits.

    The top-one form of ListNet, Cao et al. 2007, with the grades themselves as gains, as in
    Bruch et al. 2019 (An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank).
    """
    torch = require("torch", extra="train")
    scores = torch.log_softmax(logits.masked_fill(~mask, float("-inf")), dim=1)
    gains = relevance * mask
    share = gains / gains.sum(1, keepdim=True).clamp(min=1e-9)
    return -(share * scores.masked_fill(~mask, 0.0)).sum(1).mean()


def lambda_ndcg(logits: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """Pairs of different grades, each weighted by what swapping it does to nDCG.

    NDCG-Loss2++ of Wang et al. 2018, The LambdaLoss Framework for Ranking Metric Optimization,
    with mu 10.  The gain is the grade itself, as in the nDCG that ranker reports.  Summed over
    the pairs of a group, mean over the groups.
    """
    torch = require("torch", extra="train")
    order = logits.masked_fill(~mask, float("-inf")).argsort(dim=1, descending=True, stable=True)
    scores, gains = logits.gather(1, order), (relevance * mask).gather(1, order)
    places = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype)
    ideal = ((relevance * mask).sort(dim=1, descending=True).values / torch.log2(1 + places)).sum(1)
    gains = gains / ideal.clamp(min=1e-9).unsqueeze(1)
    weights = (gains.unsqueeze(2) - gains.unsqueeze(1)).clamp(min=0) * _swap_weights(torch, places)
    present = mask.gather(1, order)
    pairs = weights * (present.unsqueeze(2) & present.unsqueeze(1))
    margin = scores.unsqueeze(2) - scores.unsqueeze(1)
    # In bits, as the paper writes it.
    losses = torch.nn.functional.softplus(-margin) / math.log(2)
    return (losses * pairs).sum((1, 2)).mean()


def _swap_weights(torch: Any, places: Tensor) -> Tensor:
    """The part of the pair weights [documents, documents] that depends on the ranks alone."""
    discounts = 1 / torch.log2(1 + places)
    rank = (discounts.unsqueeze(1) - discounts.unsqueeze(0)).abs()
    apart = (places.unsqueeze(1) - places.unsqueeze(0)).abs().clamp(min=1)
    between = 1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)
    return rank + MU * between


def margin_mse(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Differences of scores in a group should be those of the teacher.

    Hofstätter et al. 2020, Improving Efficient Neural Ranking Models with Cross-Architecture
    Knowledge Distillation, arXiv:2010.02666; with two documents in a group it is their loss,
    with more the mean over all pairs.
    """
    torch = require("torch", extra="train")
    error = (logits - teacher).masked_fill(~mask, 0.0)
    upper = torch.ones(2 * error.shape[1:], dtype=torch.bool, device=mask.device).triu(1)
    pairs = mask.unsqueeze(2) & mask.unsqueeze(1) & upper
    squares = (error.unsqueeze(2) - error.unsqueeze(1)).square() * pairs
    return (squares.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()


def softmax_distillation(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy between the softmax of the teacher's scores and that of the logits.

    Hinton et al. 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531, over the
    documents of a query (temperature 1).
    """
    torch = require("torch", extra="train")
    scores = torch.log_softmax(logits.masked_fill(~mask, float("-inf")), dim=1)
    share = torch.softmax(teacher.masked_fill(~mask, float("-inf")), dim=1)
    return -(share * scores.masked_fill(~mask, 0.0)).sum(1).mean()


LOSSES: dict[str, Loss] = {
    "bce": binary_cross_entropy,
    "pairwise": pairwise_logistic,
    "listwise": listwise_softmax,
    "lambda": lambda_ndcg,
    "margin-mse": margin_mse,
    "distill": softmax_distillation,
}

TAUGHT = frozenset({"margin-mse", "distill"})
"""Losses whose target is a teacher's scores."""


def loss_of(name: str) -> Loss:
    """The loss of that name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    try:
        return LOSSES[name]
    except KeyError:
        known = ", ".join(LOSSES)
        raise UsageError(f"unknown loss {name!r}; there are: {known}") from None
