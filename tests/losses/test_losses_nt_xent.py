from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import NTXent


def slow(z1: Tensor, z2: Tensor, temperature: float) -> float:
    """Equation 1 of the paper with loops over Python floats."""
    rows = [[float(v) for v in row] for row in torch.cat((z1, z2)).double()]
    n = len(rows)

    def similarity(i: int, k: int) -> float:
        dot = sum(a * b for a, b in zip(rows[i], rows[k], strict=True))
        norms = math.sqrt(sum(a * a for a in rows[i]) * sum(b * b for b in rows[k]))
        return dot / norms / temperature

    total = 0.0
    for i in range(n):
        partner = (i + n // 2) % n
        below = sum(math.exp(similarity(i, k)) for k in range(n) if k != i)
        total -= math.log(math.exp(similarity(i, partner)) / below)
    return total / n


def views(n: int = 5, width: int = 7) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, width, generator=torch.Generator().manual_seed(0))
    return z[0], z[1]


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_agrees_with_the_paper(temperature: float):
    z1, z2 = views()
    assert float(NTXent(temperature)(z1, z2)) == pytest.approx(slow(z1, z2, temperature), rel=1e-5)
    double = NTXent(temperature)(z1.double(), z2.double())
    assert float(double) == pytest.approx(slow(z1, z2, temperature), rel=1e-12)


def test_known_value():
    # Two samples at right angles, identical views: partner 1, the two others 0.
    z = torch.eye(2)
    expected = -math.log(math.e / (math.e + 2))
    assert float(NTXent(1.0)(z, z)) == pytest.approx(expected, rel=1e-6)


def test_invariances():
    z1, z2 = views()
    loss = NTXent(0.2)
    value = loss(z1, z2)
    order = torch.tensor([3, 0, 4, 1, 2])
    scale = torch.rand(5, 1) + 0.5
    rotation = torch.linalg.qr(torch.randn(7, 7))[0]
    torch.testing.assert_close(loss(z1[order], z2[order]), value)
    torch.testing.assert_close(loss(z1 * scale, z2 / scale), value)
    torch.testing.assert_close(loss(z2, z1), value)
    torch.testing.assert_close(loss(z1 @ rotation, z2 @ rotation), value)
    assert not torch.isclose(loss(z1, z2[order]), value)


def test_following_the_gradient_lowers_it():
    z1, z2 = (z.requires_grad_() for z in views())
    loss = NTXent(0.5)
    values = []
    for _ in range(5):
        value = loss(z1, z2)
        g1, g2 = torch.autograd.grad(value, (z1, z2))
        with torch.no_grad():
            z1 -= g1
            z2 -= g2
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1


def test_gradient_agrees_with_finite_differences():
    z1, z2 = (z.double().requires_grad_() for z in views(3, 4))
    assert torch.autograd.gradcheck(NTXent(0.3), (z1, z2))


def test_computes_in_float32_inside_autocast():
    z1, z2 = views()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = NTXent(0.1)(z1, z2)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, NTXent(0.1)(z1, z2))


def test_refusals():
    loss = NTXent()
    with pytest.raises(ValueError, match=r"two views of shape \(B, D\)"):
        loss(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"two views of shape \(B, D\)"):
        loss(torch.randn(4, 3, 2), torch.randn(4, 3, 2))
    with pytest.raises(ValueError, match="at least two samples"):
        loss(torch.randn(1, 3), torch.randn(1, 3))
    with pytest.raises(ValueError, match="above 0"):
        NTXent(0)
