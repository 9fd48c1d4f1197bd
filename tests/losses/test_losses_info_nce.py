from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import InfoNCE


def slow(queries: Tensor, keys: Tensor, temperature: float) -> float:
    """Equation 1 of MoCo v3 with loops over Python floats."""
    q, k = queries.double().tolist(), keys.double().tolist()

    def similarity(a: list[float], b: list[float]) -> float:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        return math.exp(dot / (math.hypot(*a) * math.hypot(*b)) / temperature)

    total = 0.0
    for i, query in enumerate(q):
        total -= math.log(similarity(query, k[i]) / sum(similarity(query, key) for key in k))
    return total / len(q)


def rows(n: int = 5, width: int = 7) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, width, generator=torch.Generator().manual_seed(0))
    return z[0], z[1]


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_agrees_with_the_paper(temperature: float):
    q, k = rows()
    expected = slow(q, k, temperature)
    assert float(InfoNCE(temperature)(q, k)) == pytest.approx(expected, rel=1e-5)
    assert float(InfoNCE(temperature)(q.double(), k.double())) == pytest.approx(expected, rel=1e-12)


def test_known_values():
    eye = torch.eye(3)
    expected = -math.log(math.e / (math.e + 2))
    assert float(InfoNCE(1.0)(eye, eye)) == pytest.approx(expected, rel=1e-6)
    same = torch.ones(3, 4)
    assert float(InfoNCE(0.2)(same, same)) == pytest.approx(math.log(3), rel=1e-6)


def test_invariances():
    q, k = rows()
    loss = InfoNCE(0.2)
    value = loss(q, k)
    order, scale = torch.tensor([3, 0, 4, 1, 2]), torch.rand(5, 1) + 0.5
    rotation = torch.linalg.qr(torch.randn(7, 7))[0]
    torch.testing.assert_close(loss(q[order], k[order]), value)
    torch.testing.assert_close(loss(q * scale, k / scale), value)
    torch.testing.assert_close(loss(q @ rotation, k @ rotation), value)
    assert not torch.isclose(loss(q, k[order]), value)
    assert not torch.isclose(loss(k, q), value)  # queries do not meet each other


def test_following_the_gradient_lowers_it():
    q, k = (z.requires_grad_() for z in rows())
    loss, values = InfoNCE(0.5), []
    for _ in range(5):
        value = loss(q, k)
        for z, gradient in zip((q, k), torch.autograd.grad(value, (q, k)), strict=True):
            with torch.no_grad():
                z -= gradient
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1


def test_gradient_agrees_with_finite_differences():
    q, k = (z.double().requires_grad_() for z in rows(3, 4))
    assert torch.autograd.gradcheck(InfoNCE(0.3), (q, k))


def test_computes_in_float32_inside_autocast():
    q, k = rows()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = InfoNCE(0.1)(q, k)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, InfoNCE(0.1)(q, k))


def test_refusals():
    with pytest.raises(ValueError, match=r"InfoNCE compares two views of shape \(B, D\)"):
        InfoNCE()(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match="at least two samples"):
        InfoNCE()(torch.randn(1, 3), torch.randn(1, 3))
    with pytest.raises(ValueError, match="above 0"):
        InfoNCE(0)
