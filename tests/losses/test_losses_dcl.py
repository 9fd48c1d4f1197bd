from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import DCL, NTXent


def slow(z1: Tensor, z2: Tensor, temperature: float, sigma: float | None) -> float:
    """The definitions of the paper with loops over Python floats."""
    views = [[[float(v) for v in row] for row in z.double()] for z in (z1, z2)]
    n = len(z1)

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    near = [cosine(views[0][i], views[1][i]) for i in range(n)]
    total = 0.0
    for i in range(n):
        weight = 1.0
        if sigma is not None:
            mean = sum(math.exp(s / sigma) for s in near) / n
            weight = 2 - math.exp(near[i] / sigma) / mean
        for own in views:
            others = [view[k] for view in views for k in range(n) if k != i]
            below = sum(math.exp(cosine(own[i], other) / temperature) for other in others)
            total += -weight * near[i] / temperature + math.log(below)
    return total / (2 * n)


def views(n: int = 5, width: int = 7) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, width, generator=torch.Generator().manual_seed(0))
    return z[0], z[1] + 0.5 * z[0]


@pytest.mark.parametrize("sigma", [None, 0.5, 2.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_agrees_with_the_paper(temperature: float, sigma: float | None):
    z1, z2 = views()
    expected = slow(z1, z2, temperature, sigma)
    loss = DCL(temperature, sigma)
    assert float(loss(z1, z2)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(z1.double(), z2.double())) == pytest.approx(expected, rel=1e-12)


def test_known_values():
    # Two samples at right angles, identical views: positive 1, two negatives at 0. Equal pairs
    # weigh 1 each.
    z = torch.eye(2)
    for sigma in (None, 0.5):
        assert float(DCL(1.0, sigma)(z, z)) == pytest.approx(-1 + math.log(2), rel=1e-6)
    # The positive leaves NT-Xent's sum: exp of what remains differs by exp(1 / temperature).
    assert float(NTXent(1.0)(z, z)) == pytest.approx(-1 + math.log(2 + math.e), rel=1e-6)
    # One point for all: the 2N - 2 negatives are as near as the positive.
    same = torch.ones(4, 3)
    assert float(DCL(0.1, 0.5)(same, same)) == pytest.approx(math.log(6), rel=1e-5)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_invariances(sigma: float | None):
    z1, z2 = views()
    loss = DCL(0.2, sigma)
    value = loss(z1, z2)
    order = torch.tensor([3, 0, 4, 1, 2])
    scale = torch.rand(5, 1) + 0.5
    rotation = torch.linalg.qr(torch.randn(7, 7))[0]
    torch.testing.assert_close(loss(z1[order], z2[order]), value)
    torch.testing.assert_close(loss(z1 * scale, z2 / scale), value)
    torch.testing.assert_close(loss(z2, z1), value)
    torch.testing.assert_close(loss(z1 @ rotation, z2 @ rotation), value)
    assert not torch.isclose(loss(z1, z2[order]), value)


def test_pairs_that_are_apart_weigh_more():
    z1, z2 = views()
    cosines = torch.cosine_similarity(z1, z2)
    weights = DCL._weights(cosines, 0.5)
    assert weights.argsort().tolist() == cosines.argsort(descending=True).tolist()
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_following_the_gradient_lowers_it(sigma: float | None):
    z1, z2 = (z.requires_grad_() for z in views())
    values = []
    for _ in range(5):
        value = DCL(0.5, sigma)(z1, z2)
        g1, g2 = torch.autograd.grad(value, (z1, z2))
        with torch.no_grad():
            z1 -= g1
            z2 -= g2
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_gradient_agrees_with_finite_differences(sigma: float | None):
    z1, z2 = (z.double().requires_grad_() for z in views(3, 4))
    assert torch.autograd.gradcheck(DCL(0.3, sigma), (z1, z2))


def test_computes_in_float32_inside_autocast():
    z1, z2 = views()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = DCL(0.1, 0.5)(z1, z2)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, DCL(0.1, 0.5)(z1, z2))


def test_refusals():
    with pytest.raises(ValueError, match=r"DCL compares two views of shape \(B, D\)"):
        DCL()(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match="at least two samples"):
        DCL()(torch.randn(1, 3), torch.randn(1, 3))
    for wrong in ((0.0, None), (0.1, 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            DCL(*wrong)
