from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import BarlowTwins, MixedBarlow

PARTNER = torch.tensor([2, 0, 1, 3, 5, 4])


def columns(z: Tensor) -> list[list[float]]:
    """Standardised, with Python floats."""
    made = []
    for column in z.double().T.tolist():
        mean = sum(column) / len(column)
        variance = sum((v - mean) ** 2 for v in column) / len(column)
        made.append([(v - mean) / math.sqrt(variance + 1e-5) for v in column])
    return made


def slow(z1: Tensor, z2: Tensor, zm: Tensor, share: float, redundancy: float) -> float:
    """The mixed term as it is defined, with a D x D matrix and its target, for a weight of 1."""
    n, (a, b, m) = len(z1), (columns(z) for z in (z1, z2, zm))
    b_mixed = [[column[k] for k in PARTNER[:n].tolist()] for column in b]

    def correlation(x: list[float], y: list[float]) -> float:
        return sum(u * v for u, v in zip(x, y, strict=True)) / n

    total = 0.0
    for view in (a, b):
        for i in range(len(a)):
            for j in range(len(a)):
                target = share * correlation(a[i], view[j])
                target += (1 - share) * correlation(b_mixed[i], view[j])
                total += redundancy * (correlation(m[i], view[j]) - target) ** 2
    return total


def views(width: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    z = torch.randn(3, 6, width, generator=torch.Generator().manual_seed(0))
    return z[0], 0.7 * z[0] + z[1], z[2]


# More samples than dimensions, and fewer: the two ways of `off_diagonal`.
@pytest.mark.parametrize("width", [3, 11])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_agrees_with_the_definition(width: int, share: float):
    z1, z2, zm = (z.double() for z in views(width))
    expected = float(BarlowTwins(0.1)(z1, z2)) + 3 * slow(z1, z2, zm, share, 0.1)
    got = MixedBarlow(0.1, 3.0)(z1, z2, zm, torch.tensor(share), PARTNER)
    assert float(got) == pytest.approx(expected, rel=1e-6)


def test_known_values():
    z1, z2, _ = views()
    loss, plain = MixedBarlow(0.1, 5.0), BarlowTwins(0.1)(z1, z2)
    # All of the first view, embedded as it is; all of the partner's second view likewise.
    for share, zm in ((1.0, z1), (0.0, z2[PARTNER])):
        got = loss(z1, z2, zm, torch.tensor(share), PARTNER)
        torch.testing.assert_close(got, plain, rtol=1e-5, atol=1e-6)
    # A mixture that says nothing costs the whole target.
    nothing = loss(z1, z2, torch.zeros_like(z1), torch.tensor(1.0), PARTNER)
    a, b = (torch.tensor(columns(z)).float() for z in (z1, z2))
    target = (a @ a.T / 6).square().sum() + (a @ b.T / 6).square().sum()
    torch.testing.assert_close(nothing, plain + 0.5 * target, rtol=1e-4, atol=1e-5)
    unweighted = MixedBarlow(0.1, 0.0)(*views(), torch.tensor(0.4), PARTNER)
    torch.testing.assert_close(unweighted, plain)


def test_invariances():
    z1, z2, zm = (z.double() for z in views())
    share, loss = torch.tensor(0.3), MixedBarlow(0.1, 2.0)
    value = loss(z1, z2, zm, share, PARTNER)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    moved = order.argsort()[PARTNER[order]]  # who is whose partner does not change
    scale, shift = torch.rand(4) + 0.5, torch.randn(4)
    torch.testing.assert_close(loss(z1[order], z2[order], zm[order], share, moved), value)
    torch.testing.assert_close(
        loss(z1, z2, zm * scale + shift, share, PARTNER), value, rtol=1e-3, atol=1e-4
    )
    assert not torch.isclose(loss(z1, z2, zm, share, PARTNER.argsort()), value)


@pytest.mark.parametrize("width", [2, 7])
def test_gradient_agrees_with_finite_differences(width: int):
    """Through the targets too, which are not detached."""
    given = [z.double().requires_grad_() for z in views(width)]
    share, loss = torch.tensor(0.3), MixedBarlow(0.2, 3.0)
    assert torch.autograd.gradcheck(lambda *z: loss(*z, share, PARTNER), given)


def test_following_the_gradient_lowers_it():
    given = [z.requires_grad_() for z in views()]
    values = []
    for _ in range(5):
        value = MixedBarlow(0.1, 2.0)(*given, torch.tensor(0.6), PARTNER)
        gradients = torch.autograd.grad(value, given)
        with torch.no_grad():
            for z, gradient in zip(given, gradients, strict=True):
                z -= 0.2 * gradient
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.8 * values[0]


def test_computes_in_float32_inside_autocast():
    given = [z.bfloat16() for z in views()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = MixedBarlow()(*given, torch.tensor(0.3), PARTNER)
    assert inside.dtype == torch.float32
    expected = MixedBarlow()(*(z.float() for z in given), torch.tensor(0.3), PARTNER)
    assert torch.equal(inside, expected)


def test_refusals():
    z1, z2, zm = views()
    share = torch.tensor(0.3)
    with pytest.raises(ValueError, match=r"shape of a view, \(6, 4\)"):
        MixedBarlow()(z1, z2, zm[:5], share, PARTNER)
    with pytest.raises(ValueError, match="one share"):
        MixedBarlow()(z1, z2, zm, torch.rand(6), PARTNER)
    with pytest.raises(ValueError, match=r"Mixed Barlow Twins compares two views"):
        MixedBarlow()(z1, z2[:, :3], zm, share, PARTNER)
    with pytest.raises(ValueError, match="below 0"):
        MixedBarlow(mixing=-1)
