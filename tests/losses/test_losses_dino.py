from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import DINO


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def slow(student: Tensor, teacher: Tensor, centre: Tensor, temperatures: tuple[float, float]):
    """Algorithm 1 of the paper with loops over Python floats, for any number of views."""
    s, t, c = student.double().tolist(), teacher.double().tolist(), centre.double().tolist()
    pairs = []
    for j, taught in enumerate(t):
        for k, learned in enumerate(s):
            if j == k:
                continue
            for row, other in zip(taught, learned, strict=True):
                p = softmax([(x - m) / temperatures[0] for x, m in zip(row, c, strict=True)])
                q = softmax([x / temperatures[1] for x in other])
                pairs.append(-sum(a * math.log(b) for a, b in zip(p, q, strict=True)))
    return sum(pairs) / len(pairs)


def logits(views: int, n: int = 4, k: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(views, n, k, generator=torch.Generator().manual_seed(seed))


def value(loss: DINO, student: Tensor, teacher: Tensor, temperature: float = 0.5) -> Tensor:
    return loss(list(student), [loss.probabilities(rows, temperature) for rows in teacher])


@pytest.mark.parametrize("views", [2, 5])
@pytest.mark.parametrize("temperatures", [(0.2, 0.5), (1.0, 0.3)])
def test_agrees_with_the_paper(views, temperatures):
    loss = DINO(6, temperatures[1])
    loss.centre = logits(1, 1, seed=2).flatten()
    student, teacher = logits(views), logits(2, seed=1)
    expected = slow(student, teacher, loss.centre, temperatures)
    assert float(value(loss, student, teacher, temperatures[0])) == pytest.approx(
        expected, rel=1e-5
    )


def test_known_values():
    loss = DINO(4, 1.0)
    flat = torch.zeros(2, 3, 4)
    assert float(value(loss, flat, logits(2, 3, 4))) == pytest.approx(math.log(4), rel=1e-6)
    sure = 100 * torch.eye(4)[:3].expand(2, 3, 4)
    assert float(value(loss, sure, sure)) == pytest.approx(0.0, abs=1e-6)
    assert float(value(loss, sure, sure.roll(1, 1))) == pytest.approx(100.0, rel=1e-6)


def test_a_view_is_not_compared_with_itself():
    loss, student, teacher = DINO(6), logits(2), logits(2, seed=1)
    probabilities = loss.probabilities(teacher, 0.1)
    crossed = loss([student[1], student[0]], [probabilities[0], probabilities[1]])
    rows = [-(p * (s / 0.1).log_softmax(-1)).sum(1) for p, s in zip(probabilities, student)]  # noqa: B905
    torch.testing.assert_close(crossed, torch.stack(rows).mean())


def test_the_centre_follows_and_is_state():
    loss = DINO(6, momentum=0.75)
    rows = logits(1)[0]
    loss.follow(rows)
    torch.testing.assert_close(loss.centre, rows.mean(0) / 4)
    loss.follow(rows)
    torch.testing.assert_close(loss.centre, rows.mean(0) * (1 - 0.75**2))
    assert set(loss.state_dict()) == {"centre"}


def test_centring_removes_what_all_samples_share_and_sharpening_what_is_unsure():
    loss = DINO(6, momentum=0.0)
    rows = logits(1)[0] * 0.1
    rows[:, 2] += 5  # one prototype is everyone's
    assert (loss.probabilities(rows, 0.1).argmax(1) == 2).all()
    loss.follow(rows)
    assert not (loss.probabilities(rows, 0.1).argmax(1) == 2).all()
    sharp, flat = (loss.probabilities(rows, t).amax(1).mean() for t in (0.01, 10.0))
    assert sharp > 0.9
    assert flat < 0.18


def test_invariances():
    loss, student, teacher = DINO(6), logits(4), logits(2, seed=1)
    expected = value(loss, student, teacher)
    order, names = torch.tensor([2, 0, 3, 1]), torch.randperm(6)
    torch.testing.assert_close(value(loss, student[:, order], teacher[:, order]), expected)
    torch.testing.assert_close(value(loss, student[..., names], teacher[..., names]), expected)
    swapped = torch.tensor([1, 0, 3, 2])
    torch.testing.assert_close(value(loss, student[swapped], teacher[swapped[:2]]), expected)
    torch.testing.assert_close(value(loss, student + 3, teacher - 2), expected)
    assert not torch.isclose(value(loss, student[:, order], teacher), expected)


def test_following_the_gradient_lowers_it_and_the_teacher_gets_none():
    loss, student = DINO(6), logits(3).requires_grad_()
    teacher, values = logits(2, seed=1).requires_grad_(), []
    for _ in range(5):
        found = value(loss, student, teacher)
        (gradient,) = torch.autograd.grad(found, student)
        with torch.no_grad():
            student -= 0.1 * gradient
        values.append(float(found.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1
    value(loss, student, teacher).backward()
    assert teacher.grad is None


def test_gradient_agrees_with_finite_differences():
    loss = DINO(6, 0.7)
    taught = [loss.probabilities(rows, 0.5) for rows in logits(2, seed=1).double()]
    student = logits(3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(list(x), taught), student)


def test_computes_in_float32_inside_autocast():
    loss, student, teacher = DINO(6), logits(2).bfloat16(), logits(2, seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value(loss, student, teacher)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, value(loss, student.float(), teacher.float()))


@pytest.mark.parametrize(
    ("student", "taught", "words"),
    [
        ([(4, 6), (4, 6)], [(4, 5)], r"one shape \(B, K\)"),
        ([(6,), (6,)], [(6,)], r"one shape \(B, K\)"),
        ([(4, 6)], [(4, 6)], "two of them"),
        ([(4, 6)] * 2, [(4, 6)] * 3, "all the teacher's"),
        ([(4, 6)] * 2, [], "all the teacher's"),
    ],
)
def test_refusals(student, taught, words):
    with pytest.raises(ValueError, match=words):
        DINO(6)([torch.zeros(s) for s in student], [torch.zeros(s) for s in taught])


def test_a_temperature_is_above_0():
    with pytest.raises(ValueError, match="above 0"):
        DINO(6, 0.0)
