from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import VICReg


def slow(z1: Tensor, z2: Tensor, weights: tuple[float, float, float]) -> float:
    """Equations 1 to 6 of the paper with loops over Python floats."""
    n, width = z1.shape
    rows1, rows2 = z1.double().tolist(), z2.double().tolist()
    apart = sum(
        (a - b) ** 2 for r, s in zip(rows1, rows2, strict=True) for a, b in zip(r, s, strict=True)
    )
    variance = covariance = 0.0
    for rows in (rows1, rows2):
        means = [sum(row[i] for row in rows) / n for i in range(width)]
        for i in range(width):
            for j in range(width):
                c = sum((row[i] - means[i]) * (row[j] - means[j]) for row in rows) / (n - 1)
                if i == j:
                    variance += max(0.0, 1 - math.sqrt(c + 1e-4)) / width
                else:
                    covariance += c * c / width
    return weights[0] * apart / n / width + weights[1] * variance + weights[2] * covariance


def views(n: int = 6, width: int = 5) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, width, generator=torch.Generator().manual_seed(0))
    return z[0], 0.7 * z[0] + 0.5 * z[1]


# More samples than dimensions, and fewer: the two ways of `off_diagonal`.
@pytest.mark.parametrize(("n", "width"), [(9, 4), (4, 9)])
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 2.0, 30.0), (0.0, 0.0, 1.0)])
def test_agrees_with_the_paper(n: int, width: int, weights: tuple[float, float, float]):
    z1, z2 = views(n, width)
    expected = slow(z1, z2, weights)
    assert float(VICReg(*weights)(z1, z2)) == pytest.approx(expected, rel=1e-5)
    double = VICReg(*weights)(z1.double(), z2.double())
    assert float(double) == pytest.approx(expected, rel=1e-12)


def test_known_values():
    # Variance 4/3 and no covariance: nothing to pay; a shift of one view by 2 costs 25 * 4.
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(VICReg()(z, z)) == pytest.approx(0.0, abs=1e-9)
    assert float(VICReg()(z, z + 2)) == pytest.approx(100.0, rel=1e-6)
    # Collapsed: every deviation is sqrt(1e-4), in both views.
    same = torch.ones(4, 2, requires_grad=True)
    value = VICReg()(same, same)
    assert value.item() == pytest.approx(25 * 2 * 0.99, rel=1e-6)
    assert torch.autograd.grad(value, same)[0].isfinite().all()
    # One dimension twice: covariance 4/3, two entries, over two dimensions, in both views.
    twice = z[:, :1].expand(4, 2)
    assert float(VICReg()(twice, twice)) == pytest.approx(2 * (4 / 3) ** 2, rel=1e-5)


@pytest.mark.parametrize(("n", "width"), [(9, 4), (4, 9)])
def test_invariances(n: int, width: int):
    z1, z2 = views(n, width)
    value = VICReg()(z1, z2)
    order, shift = torch.randperm(n), torch.randn(width)
    signs = torch.randint(0, 2, (width,)) * 2.0 - 1
    torch.testing.assert_close(VICReg()(z1[order], z2[order]), value)
    torch.testing.assert_close(VICReg()(z2, z1), value)
    torch.testing.assert_close(VICReg()((z1 + shift) * signs, (z2 + shift) * signs), value)
    assert not torch.isclose(VICReg()(z1, z2.roll(1, 0)), value)
    # Not of scale: the variance is regularised, twice the covariance is four times as much.
    only = VICReg(0, 0, 1)
    torch.testing.assert_close(only(2 * z1, 2 * z2), 16 * only(z1, z2))


def test_following_the_gradient_lowers_it():
    z1, z2 = (z.requires_grad_() for z in views())
    values = []
    for _ in range(5):
        value = VICReg()(z1, z2)
        g1, g2 = torch.autograd.grad(value, (z1, z2))
        with torch.no_grad():
            z1 -= 0.05 * g1
            z2 -= 0.05 * g2
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize(("n", "width"), [(5, 2), (3, 5)])
def test_gradient_agrees_with_finite_differences(n: int, width: int):
    z1, z2 = (z.double().requires_grad_() for z in views(n, width))
    assert torch.autograd.gradcheck(VICReg(2.0, 3.0, 4.0), (z1, z2))


def test_computes_in_float32_inside_autocast():
    z1, z2 = views()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = VICReg()(z1.bfloat16(), z2.bfloat16())
    assert inside.dtype == torch.float32
    assert torch.equal(inside, VICReg()(z1.bfloat16().float(), z2.bfloat16().float()))


def test_refusals():
    with pytest.raises(ValueError, match=r"VICReg compares two views of shape \(B, D\)"):
        VICReg()(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match="at least two samples"):
        VICReg()(torch.randn(1, 3), torch.randn(1, 3))
    with pytest.raises(ValueError, match="below 0"):
        VICReg(covariance=-1)
