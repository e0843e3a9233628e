import math

import pytest
import torch

from ranker.dataset.groups import TrainingGroup
from ranker.errors import UsageError
from ranker.model.losses import (
    LOSSES,
    binary,
    binary_cross_entropy,
    grades,
    lambda_ndcg,
    listwise_softmax,
    margin_mse,
    pairwise_logistic,
    softmax_distillation,
    teacher_scores,
)
from ranker.records import Document
from ranker.train import TrainArguments

LOGITS = torch.tensor([[1.0, -0.5, 2.0], [0.3, 0.1, 9.0]])
RELEVANCE = torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_binary_cross_entropy_by_hand() -> None:
    relevant, not_relevant = (1.0, 2.0, 0.3), (-0.5, 0.1)
    expected = (sum(softplus(-s) for s in relevant) + sum(softplus(s) for s in not_relevant)) / 5
    loss = binary_cross_entropy(LOGITS, (RELEVANCE > 0).float(), MASK).item()
    assert loss == pytest.approx(expected, abs=1e-6)


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


def test_lambda_ndcg_by_hand() -> None:
    """Ranks by logit in the first group: grade 1, grade 2, grade 0; in the second: 1, 0."""

    def discount(rank: int) -> float:
        return 1 / math.log2(1 + rank)

    def weight(rank: int, other: int) -> float:
        apart = abs(rank - other)
        between = discount(apart) - discount(apart + 1)
        return abs(discount(rank) - discount(other)) + 10 * between

    ideal = 2 * discount(1) + 1 * discount(2)
    first = (
        weight(2, 1) * (2 - 1) * softplus(-(1.0 - 2.0))
        + weight(2, 3) * (2 - 0) * softplus(-(1.0 + 0.5))
        + weight(1, 3) * (1 - 0) * softplus(-(2.0 + 0.5))
    ) / ideal
    second = weight(1, 2) * 1 * softplus(-(0.3 - 0.1))
    expected = (first + second) / math.log(2) / 2
    assert lambda_ndcg(LOGITS, RELEVANCE, MASK).item() == pytest.approx(expected, abs=1e-6)


def test_margin_mse_by_hand() -> None:
    first = ((1.5 - 2.0) ** 2 + (-1.0 - 1.0) ** 2 + (-2.5 + 1.0) ** 2) / 3
    second = (0.2 - 1.0) ** 2
    loss = margin_mse(LOGITS, RELEVANCE, MASK).item()
    assert loss == pytest.approx((first + second) / 2, abs=1e-6)


def test_softmax_distillation_by_hand() -> None:
    def share(scores: list[float]) -> list[float]:
        return [math.exp(s) / sum(map(math.exp, scores)) for s in scores]

    def entropy(teacher: list[float], student: list[float]) -> float:
        pairs = zip(share(teacher), share(student), strict=True)
        return -sum(t * math.log(s) for t, s in pairs)

    expected = (entropy([2, 0, 1], [1.0, -0.5, 2.0]) + entropy([1, 0], [0.3, 0.1])) / 2
    loss = softmax_distillation(LOGITS, RELEVANCE, MASK).item()
    assert loss == pytest.approx(expected, abs=1e-6)


def test_a_pupil_with_its_teachers_differences_has_nothing_to_learn() -> None:
    for loss in (loss for loss in LOSSES.values() if loss.needs_teacher):
        logits = (RELEVANCE + 3).requires_grad_()
        loss.function(logits, RELEVANCE, MASK).backward()
        assert logits.grad is not None and logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", ["pairwise", "listwise", "lambda"])
def test_a_group_without_relevant_documents_is_finite(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = LOSSES[name].function(logits, torch.zeros_like(RELEVANCE), MASK)
    loss.backward()
    assert loss == 0 and logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_masked_documents_have_no_part(name: str) -> None:
    loss = LOSSES[name].function
    moved = LOGITS.clone()
    moved[1, 2] = -100.0
    assert loss(LOGITS, RELEVANCE, MASK) == loss(moved, RELEVANCE, MASK)
    logits = LOGITS.clone().requires_grad_()
    loss(logits, RELEVANCE, MASK).backward()
    assert logits.grad is not None and logits.grad[1, 2] == 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_descent_ranks_by_grade(name: str) -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    relevance = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    for _ in range(50):
        (gradient,) = torch.autograd.grad(
            LOSSES[name].function(logits, relevance, torch.ones(1, 4, dtype=torch.bool)), logits
        )
        logits = (logits - gradient).detach().requires_grad_()
    assert logits.argmax() == 1


def test_an_unknown_loss_names_the_known() -> None:
    with pytest.raises(UsageError, match="loss must be one of bce, pair.*, got no-such-loss"):
        TrainArguments(loss="no-such-loss")


def test_each_loss_says_what_it_learns_from() -> None:
    group = TrainingGroup(
        "query", (Document("1", "", "a"), Document("2", "", "b")), (2, 1), ("positive", "judged"),
        teacher_scores=(3.5, -1.0),
    )  # fmt: skip
    assert {name: list(loss.targets(group, 2)) for name, loss in LOSSES.items()} == {
        "bce": [1.0, 0.0],
        "pairwise": [2, 1],
        "listwise": [2, 1],
        "lambda": [2, 1],
        "margin-mse": [3.5, -1.0],
        "distill": [3.5, -1.0],
    }
    assert {loss.targets for loss in LOSSES.values()} == {binary, grades, teacher_scores}
