import math

import pytest
import torch

from ranker.errors import UsageError
from ranker.losses import binary_cross_entropy, listwise_softmax, loss_of, pairwise_logistic

LOGITS = torch.tensor([[1.0, -0.5, 2.0], [0.3, 0.1, 9.0]])
RELEVANCE = torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_binary_cross_entropy_by_hand() -> None:
    relevant, not_relevant = (1.0, 2.0, 0.3), (-0.5, 0.1)
    expected = (sum(softplus(-s) for s in relevant) + sum(softplus(s) for s in not_relevant)) / 5
    assert binary_cross_entropy(LOGITS, RELEVANCE, MASK).item() == pytest.approx(expected, abs=1e-6)


def test_pairwise_logistic_by_hand() -> None:
    first = (softplus(-(1.0 + 0.5)) + softplus(-(1.0 - 2.0)) + softplus(-(2.0 + 0.5))) / 3
    second = softplus(-(0.3 - 0.1))
    expected = (first + second) / 2
    assert pairwise_logistic(LOGITS, RELEVANCE, MASK).item() == pytest.approx(expected, abs=1e-6)


def test_listwise_softmax_by_hand() -> None:
    total = math.log(sum(math.exp(s) for s in (1.0, -0.5, 2.0)))
    first = -(2 / 3 * (1.0 - total) + 1 / 3 * (2.0 - total))
    second = -(0.3 - math.log(math.exp(0.3) + math.exp(0.1)))
    expected = (first + second) / 2
    assert listwise_softmax(LOGITS, RELEVANCE, MASK).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["bce", "pairwise", "listwise"])
def test_masked_documents_have_no_part(name: str) -> None:
    loss = loss_of(name)
    moved = LOGITS.clone()
    moved[1, 2] = -100.0
    assert loss(LOGITS, RELEVANCE, MASK) == loss(moved, RELEVANCE, MASK)
    logits = LOGITS.clone().requires_grad_()
    loss(logits, RELEVANCE, MASK).backward()
    assert logits.grad is not None and logits.grad[1, 2] == 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["bce", "pairwise", "listwise"])
def test_descent_ranks_by_grade(name: str) -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    relevance = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    for _ in range(50):
        (gradient,) = torch.autograd.grad(
            loss_of(name)(logits, relevance, torch.ones(1, 4, dtype=torch.bool)), logits
        )
        logits = (logits - gradient).detach().requires_grad_()
    assert logits.argmax() == 1


def test_an_unknown_loss_names_the_known() -> None:
    with pytest.raises(UsageError, match="unknown loss 'hinge'; there are: bce, pair"):
        loss_of("hinge")
