"""Ranking losses over groups of documents of one query.

All have one form: `logits` [groups, documents] float, `relevance` [groups, documents] float
(the grades), `mask` [groups, documents] bool (False where a group has fewer documents), and give
the mean loss as a scalar.
"""

from collections.abc import Callable
from typing import Any

from ranker.errors import UsageError, require

__all__ = [
    "LOSSES",
    "Loss",
    "binary_cross_entropy",
    "listwise_softmax",
    "loss_of",
    "pairwise_logistic",
]

Tensor = Any
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


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


LOSSES: dict[str, Loss] = {
    "bce": binary_cross_entropy,
    "pairwise": pairwise_logistic,
    "listwise": listwise_softmax,
}


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
