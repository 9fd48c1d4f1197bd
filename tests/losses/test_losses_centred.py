from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import DINO, CentredCE


def slow(student: Tensor, teacher: Tensor, centre: Tensor, weight: Tensor, temperatures):
    """The formula with loops over Python floats."""
    total = 0.0
    for s, t, w in zip(student.tolist(), teacher.tolist(), weight.tolist(), strict=True):
        raised = [math.exp((x - c) / temperatures[0]) for x, c in zip(t, centre, strict=True)]
        scale = sum(math.exp(x / temperatures[1]) for x in s)
        logs = [x / temperatures[1] - math.log(scale) for x in s]
        total -= w * sum(r / sum(raised) * log for r, log in zip(raised, logs, strict=True))
    return total / float(weight.sum())


def logits(n: int = 5, k: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def value(loss: CentredCE, student: Tensor, teacher: Tensor, weight: Tensor | None = None):
    return loss(student, loss.probabilities(teacher, 0.5), weight)


@pytest.mark.parametrize("weight", [[1.0, 0.0, 2.0, 0.5, 1.0], [1.0] * 5])
def test_agrees_with_the_formula(weight):
    loss = CentredCE(6, 0.3)
    loss.centre = logits(1, seed=2).flatten()
    student, teacher, weight = logits(), logits(seed=1), torch.tensor(weight)
    wanted = slow(student.double(), teacher.double(), loss.centre.tolist(), weight, (0.5, 0.3))
    assert float(value(loss, student, teacher, weight)) == pytest.approx(wanted, rel=1e-5)


def test_known_values():
    loss = CentredCE(4, 1.0)
    flat, sure = torch.zeros(3, 4), 100 * torch.eye(4)[:3]
    assert float(value(loss, flat, logits(3, 4))) == pytest.approx(math.log(4), rel=1e-6)
    assert float(value(loss, sure, sure)) == pytest.approx(0.0, abs=1e-6)
    assert float(value(loss, sure, sure.roll(1, 0))) == pytest.approx(100.0, rel=1e-6)
    counted = torch.tensor([0.0, 0.0, 1.0])
    assert float(value(loss, sure.roll(1, 0), sure, counted)) == pytest.approx(100.0, rel=1e-6)
    assert float(value(loss, flat, flat, torch.zeros(3))) == 0.0


def test_of_two_views_it_is_dinos():
    mine, dino = CentredCE(6, 0.2), DINO(6, 0.2)
    student, teacher = logits(8), logits(8, seed=1)
    probabilities = dino.probabilities(teacher, 0.5)
    wanted = dino(list(student.chunk(2)), list(probabilities.chunk(2)))
    torch.testing.assert_close(mine(student, probabilities.roll(4, 0)), wanted)


def test_invariances():
    loss, student, teacher = CentredCE(6), logits(), logits(seed=1)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
    wanted = value(loss, student, teacher, weight)
    order, names = torch.tensor([2, 0, 4, 3, 1]), torch.randperm(6)
    same = value(loss, student[order], teacher[order], weight[order])
    torch.testing.assert_close(same, wanted)
    torch.testing.assert_close(value(loss, student[:, names], teacher[:, names], weight), wanted)
    torch.testing.assert_close(value(loss, student + 3, teacher - 2, 7 * weight), wanted)
    assert not torch.isclose(value(loss, student[order], teacher, weight), wanted)
    weightless = student.clone()
    weightless[1] = 9 * torch.randn(6)
    assert torch.equal(value(loss, weightless, teacher, weight), wanted)


def test_following_the_gradient_lowers_it_and_the_teacher_gets_none():
    loss, student = CentredCE(6), logits().requires_grad_()
    teacher, values = logits(seed=1).requires_grad_(), []
    for _ in range(5):
        found = value(loss, student, teacher)
        (gradient,) = torch.autograd.grad(found, student)
        with torch.no_grad():
            student -= 0.1 * gradient
        values.append(float(found.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.05
    value(loss, student, teacher).backward()
    assert teacher.grad is None


def test_without_any_weight_there_is_a_gradient_of_zeros():
    student = logits().requires_grad_()
    value(CentredCE(6), student, logits(seed=1), torch.zeros(5)).backward()
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_gradient_agrees_with_finite_differences():
    loss = CentredCE(6, 0.7)
    taught = loss.probabilities(logits(seed=1).double(), 0.5)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
    student = logits().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, taught, weight), student)


def test_computes_in_float32_inside_autocast():
    loss, student, teacher = CentredCE(6), logits().bfloat16(), logits(seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value(loss, student, teacher)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, value(loss, student.float(), teacher.float()))


@pytest.mark.parametrize(
    ("student", "taught", "weight"),
    [((4, 6), (4, 5), None), ((6,), (6,), None), ((4, 6), (4, 6), 3), ((4, 6), (3, 6), 4)],
)
def test_refusals(student, taught, weight):
    weight = None if weight is None else torch.ones(weight)
    with pytest.raises(ValueError, match="row by row"):
        CentredCE(6)(torch.zeros(student), torch.zeros(taught), weight)


def test_a_temperature_is_above_0():
    with pytest.raises(ValueError, match="above 0"):
        CentredCE(6, 0.0)
