from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import NegativeCosine


def slow(p: Tensor, z: Tensor) -> float:
    """Equation 1 of the paper with loops over Python floats."""
    total = 0.0
    for a, b in zip(p.double().tolist(), z.double().tolist(), strict=True):
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        total -= dot / (math.hypot(*a) * math.hypot(*b))
    return total / len(p)


def rows(n: int = 5, width: int = 7) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, width, generator=torch.Generator().manual_seed(0))
    return z[0], z[1]


def test_agrees_with_the_paper():
    p, z = rows()
    assert float(NegativeCosine()(p, z)) == pytest.approx(slow(p, z), rel=1e-5)
    assert float(NegativeCosine()(p.double(), z.double())) == pytest.approx(slow(p, z), rel=1e-12)


def test_known_values():
    eye = torch.eye(2)
    assert float(NegativeCosine()(eye, 3 * eye)) == -1.0
    assert float(NegativeCosine()(eye, eye.flip(0))) == 0.0
    assert float(NegativeCosine()(eye, torch.tensor([[1.0, 0.0], [0.0, -1.0]]))) == 0.0
    assert float(NegativeCosine()(eye, -eye)) == 1.0


def test_invariances():
    p, z = rows()
    value = NegativeCosine()(p, z)
    order, scale = torch.tensor([3, 0, 4, 1, 2]), torch.rand(5, 1) + 0.5
    rotation = torch.linalg.qr(torch.randn(7, 7))[0]
    torch.testing.assert_close(NegativeCosine()(p[order], z[order]), value)
    torch.testing.assert_close(NegativeCosine()(p * scale, z / scale), value)
    torch.testing.assert_close(NegativeCosine()(p @ rotation, z @ rotation), value)
    assert not torch.isclose(NegativeCosine()(p, z[order]), value)


def test_following_the_gradient_lowers_it_and_the_target_gets_none():
    p, z = (row.requires_grad_() for row in rows())
    values = []
    for _ in range(5):
        value = NegativeCosine()(p, z)
        (gradient,) = torch.autograd.grad(value, p)
        with torch.no_grad():
            p -= 3 * gradient
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1
    NegativeCosine()(p, z).backward()
    assert p.grad is not None
    assert z.grad is None


def test_gradient_agrees_with_finite_differences():
    p, z = (row.double() for row in rows(3, 4))
    assert torch.autograd.gradcheck(lambda x: NegativeCosine()(x, z), p.requires_grad_())


def test_computes_in_float32_inside_autocast():
    p, z = rows()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = NegativeCosine()(p.bfloat16(), z.bfloat16())
    assert inside.dtype == torch.float32
    assert torch.equal(inside, NegativeCosine()(p.bfloat16().float(), z.bfloat16().float()))


def test_refusals():
    with pytest.raises(ValueError, match=r"negative cosine compares two views of shape \(B, D\)"):
        NegativeCosine()(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match="at least two samples"):
        NegativeCosine()(torch.randn(1, 3), torch.randn(1, 3))
