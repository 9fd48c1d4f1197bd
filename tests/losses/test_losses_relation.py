from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import Relation


def relation(row: list[float], others: list[list[float]], temperature: float) -> list[float]:
    """Softmax of cosines with Python floats."""
    similar = [
        sum(a * b for a, b in zip(row, other, strict=True))
        / (math.hypot(*row) * math.hypot(*other) * temperature)
        for other in others
    ]
    total = math.fsum(math.exp(s) for s in similar)
    return [math.exp(s) / total for s in similar]


def slow(student: Tensor, teacher: Tensor, others: Tensor, t_s: float, t_t: float) -> float:
    """The definitions of the paper, sample by sample."""
    rest, total = others.double().tolist(), 0.0
    pairs = zip(student.double().tolist(), teacher.double().tolist(), strict=True)
    for s, t in pairs:
        target, guess = relation(t, rest, t_t), relation(s, rest, t_s)
        total -= sum(p * math.log(q) for p, q in zip(target, guess, strict=True))
    return total / len(student)


def loss_of(s: Tensor, t: Tensor, others: Tensor, t_s: float = 0.1, t_t: float = 0.04) -> Tensor:
    """The student's loss with the teacher's relations as target."""
    loss = Relation(t_s, t_t)
    value: Tensor = loss(s, loss.relations(t, others), others)
    return value


def rows(n: int = 4, k: int = 6, width: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    z = torch.randn(2 * n + k, width, generator=torch.Generator().manual_seed(0))
    return z[:n], z[n : 2 * n], z[2 * n :]


@pytest.mark.parametrize(("t_s", "t_t"), [(0.1, 0.04), (1.0, 0.5)])
def test_agrees_with_the_paper(t_s: float, t_t: float):
    expected = slow(*rows(), t_s, t_t)
    assert float(loss_of(*rows(), t_s, t_t)) == pytest.approx(expected, rel=1e-5)
    double = loss_of(*(z.double() for z in rows()), t_s, t_t)
    assert float(double) == pytest.approx(expected, rel=1e-12)


def test_known_values():
    others, student = torch.eye(3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    # The same relation at the same temperature: its entropy.
    p = torch.tensor([math.e, 1.0, 1.0]) / (math.e + 2)
    entropy = float(-(p * p.log()).sum())
    assert float(loss_of(student, student, others, 1.0, 1.0)) == pytest.approx(entropy, rel=1e-6)
    # A teacher that is sure: minus the log of one probability. One point for all: ln K.
    sure = loss_of(student, student, others, 1.0, 1e-3)
    assert float(sure) == pytest.approx(-math.log(float(p[0])), rel=1e-6)
    same = torch.ones(2, 3)
    assert float(loss_of(same, same, torch.ones(7, 3))) == pytest.approx(math.log(7), rel=1e-6)


def test_invariances():
    s, t, others = rows()
    value = loss_of(s, t, others)
    order, turn = torch.randperm(4), torch.linalg.qr(torch.randn(5, 5))[0]
    torch.testing.assert_close(loss_of(s[order], t[order], others), value)
    torch.testing.assert_close(loss_of(s, t, others[torch.randperm(6)]), value)
    torch.testing.assert_close(loss_of(2 * s, 3 * t, 4 * others), value)
    torch.testing.assert_close(loss_of(s @ turn, t @ turn, others @ turn), value)
    assert not torch.isclose(loss_of(t, s, others), value)


def test_gradient_is_the_students_alone_and_lowers_it():
    s, t, others = (z.double().requires_grad_() for z in rows())
    nothing = torch.autograd.grad(loss_of(s, t, others), (t, others), allow_unused=True)
    assert nothing == (None, None)
    assert torch.autograd.gradcheck(lambda z: loss_of(z, t, others, 0.5, 0.1), (s,))
    values = []
    for _ in range(5):
        value = loss_of(s, t, others, 0.5, 0.1)
        (gradient,) = torch.autograd.grad(value, s)
        with torch.no_grad():
            s -= gradient
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1


def test_relations_are_probabilities_in_float32_inside_autocast():
    s, t, others = rows()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, found = loss_of(s, t, others), Relation().relations(t.bfloat16(), others)
    assert inside.dtype == found.dtype == torch.float32
    assert torch.equal(inside, loss_of(s, t, others))
    torch.testing.assert_close(found.sum(1), torch.ones(4))
    assert torch.equal(found.argmax(1), torch.cosine_similarity(t[:, None], others, 2).argmax(1))


def test_refusals():
    loss = Relation()
    with pytest.raises(ValueError, match=r"targets \(B, K\), not \(4, 3\) with \(5, 6\)"):
        loss(torch.randn(4, 3), torch.rand(5, 6), torch.randn(6, 3))
    for refused in (loss.relations, lambda z, others: loss(z, torch.rand(4, 6), others)):
        with pytest.raises(ValueError, match=r"\(4, 3\) are not related to others of \(6, 4\)"):
            refused(torch.randn(4, 3), torch.randn(6, 4))
    with pytest.raises(ValueError, match="above 0"):
        Relation(0.1, 0)
