from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import BarlowTwins


def slow(z1: Tensor, z2: Tensor, redundancy: float) -> float:
    """Equations 1 and 2 of the paper with loops over Python floats."""
    columns = []
    for z in (z1, z2):
        for column in z.double().T.tolist():
            mean = sum(column) / len(column)
            variance = sum((v - mean) ** 2 for v in column) / len(column)
            columns.append([(v - mean) / math.sqrt(variance + 1e-5) for v in column])
    width, total = z1.shape[1], 0.0
    for i in range(width):
        for j in range(width):
            pairs = zip(columns[i], columns[width + j], strict=True)
            c = sum(a * b for a, b in pairs) / len(z1)
            total += (1 - c) ** 2 if i == j else redundancy * c**2
    return total


def views(n: int = 6, width: int = 5) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, width, generator=torch.Generator().manual_seed(0))
    return z[0], 0.7 * z[0] + z[1]


# More samples than dimensions, and fewer: the two ways of `off_diagonal`.
@pytest.mark.parametrize(("n", "width"), [(9, 4), (4, 9)])
@pytest.mark.parametrize("redundancy", [0.005, 1.0])
def test_agrees_with_the_paper(n: int, width: int, redundancy: float):
    z1, z2 = views(n, width)
    expected = slow(z1, z2, redundancy)
    loss = BarlowTwins(redundancy)
    assert float(loss(z1, z2)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(z1.double(), z2.double())) == pytest.approx(expected, rel=1e-12)


def test_known_values():
    # Two dimensions that do not correlate; the same view twice, then one dimension mirrored.
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(BarlowTwins()(z, z)) == pytest.approx(0.0, abs=1e-9)
    assert float(BarlowTwins()(z, z * torch.tensor([1.0, -1.0]))) == pytest.approx(4.0, rel=1e-4)
    # One dimension twice: both off-diagonal correlations are one.
    twice = z[:, :1].expand(4, 2)
    assert float(BarlowTwins(0.25)(twice, twice)) == pytest.approx(0.5, rel=1e-4)
    # A constant dimension correlates with nothing, and its gradient is finite.
    dead = torch.cat((z[:, :1], torch.ones(4, 1)), dim=1).requires_grad_()
    value = BarlowTwins()(dead, dead)
    assert value.item() == pytest.approx(1.0, rel=1e-4)
    assert torch.autograd.grad(value, dead)[0].isfinite().all()


@pytest.mark.parametrize(("n", "width"), [(9, 4), (4, 9)])
def test_invariances(n: int, width: int):
    z1, z2 = (z.double() for z in views(n, width))
    loss = BarlowTwins(0.1)
    value = loss(z1, z2)
    order = torch.randperm(n)
    scale, shift = torch.rand(width) + 0.5, torch.randn(width)
    torch.testing.assert_close(loss(z1[order], z2[order]), value)
    torch.testing.assert_close(loss(z2, z1), value)
    torch.testing.assert_close(loss(z1 * scale + shift, z2), value, rtol=1e-3, atol=1e-4)
    assert not torch.isclose(loss(z1, z2.roll(1, 0)), value)


def test_following_the_gradient_lowers_it():
    z1, z2 = (z.requires_grad_() for z in views())
    values = []
    for _ in range(5):
        value = BarlowTwins(0.1)(z1, z2)
        g1, g2 = torch.autograd.grad(value, (z1, z2))
        with torch.no_grad():
            z1 -= 0.2 * g1
            z2 -= 0.2 * g2
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize(("n", "width"), [(5, 2), (3, 5)])
def test_gradient_agrees_with_finite_differences(n: int, width: int):
    z1, z2 = (z.double().requires_grad_() for z in views(n, width))
    assert torch.autograd.gradcheck(BarlowTwins(0.3), (z1, z2))
    assert torch.autograd.gradcheck(lambda z: BarlowTwins(0.3)(z, z2.detach()), (z1,))


def test_computes_in_float32_inside_autocast():
    z1, z2 = views()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = BarlowTwins()(z1.bfloat16(), z2.bfloat16())
    assert inside.dtype == torch.float32
    assert torch.equal(inside, BarlowTwins()(z1.bfloat16().float(), z2.bfloat16().float()))


def test_refusals():
    with pytest.raises(ValueError, match=r"Barlow Twins compares two views of shape \(B, D\)"):
        BarlowTwins()(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"two views of shape \(B, D\)"):
        BarlowTwins()(torch.randn(4, 3, 2), torch.randn(4, 3, 2))
    with pytest.raises(ValueError, match="at least two samples"):
        BarlowTwins()(torch.randn(1, 3), torch.randn(1, 3))
    with pytest.raises(ValueError, match="below 0"):
        BarlowTwins(-1)


@pytest.mark.slow  # importing MONAI takes seconds
@pytest.mark.parametrize(("n", "width"), [(6, 3), (3, 6)])
def test_agrees_with_monai(n: int, width: int):
    losses = pytest.importorskip("monai.losses")
    z1, z2 = (z.double() * 100 for z in views(n, width))
    # MONAI divides by the sample deviation and by the number of samples: C is (n-1)/n of the
    # paper's. Large embeddings make both epsilons vanish; two values part C_ij from C_ii.
    without, with_all = (float(losses.BarlowTwinsLoss(v)(z1, z2)) for v in (0.0, 1.0))
    factor = n / (n - 1)
    off = (with_all - without) * factor**2
    mine = [float(BarlowTwins(v)(z1, z2)) for v in (0.0, 1.0)]
    assert mine[1] - mine[0] == pytest.approx(off, rel=1e-5)
