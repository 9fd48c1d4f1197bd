from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import PixelConsistency


def slow(y: Tensor, x: Tensor, pairs: Tensor) -> float:
    """Equation 5 of the paper, one direction, pair by pair."""
    samples = []
    for prediction, target, among in zip(
        y.double().tolist(), x.double().tolist(), pairs, strict=True
    ):
        cosines = []
        for i, j in among.nonzero().tolist():
            a, b = prediction[i], target[j]
            dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
            cosines.append(dot / (math.hypot(*a) * math.hypot(*b)))
        samples.append(-sum(cosines) / len(cosines) if cosines else 0.0)
    return sum(samples) / len(samples)


def cells() -> tuple[Tensor, Tensor, Tensor]:
    """4 samples of 5 and of 6 cells; the last has no pair."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.randn(4, 5, 3, generator=generator), torch.randn(4, 6, 3, generator=generator)
    pairs = torch.rand(4, 5, 6, generator=generator) < 0.3
    pairs[3] = False
    return y, x, pairs


def test_agrees_with_the_paper():
    y, x, pairs = cells()
    loss, expected = PixelConsistency(), slow(y, x, pairs)
    assert float(loss(y, x, pairs)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(y.double(), x.double(), pairs)) == pytest.approx(expected, rel=1e-12)


def test_known_values():
    loss, one = PixelConsistency(), torch.ones(1, 1, 1, dtype=torch.bool)
    right, up = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 2.0]]])
    assert float(loss(right, right, one)) == -1.0
    assert float(loss(right, up, one)) == 0.0
    assert float(loss(right, -right, one)) == 1.0
    # One partner alike and one at right angles; and every sample counts alike.
    both = torch.cat((right, up), dim=1)
    assert float(loss(right, both, one.expand(1, 1, 2))) == pytest.approx(-0.5)
    pairs = torch.tensor([[[True, True]], [[True, False]]])
    twice = loss(right.expand(2, 1, 2), both.expand(2, 2, 2), pairs)
    assert float(twice) == pytest.approx(-0.75)


def test_without_pairs_the_loss_is_0_and_its_gradient_too():
    y, x, pairs = cells()
    y.requires_grad_()
    value = PixelConsistency()(y, x, torch.zeros_like(pairs))
    value.backward()
    assert float(value.detach()) == 0.0
    assert torch.equal(y.grad, torch.zeros_like(y))


def test_invariances():
    y, x, pairs = cells()
    loss, value = PixelConsistency(), PixelConsistency()(y, x, pairs)
    samples, rows = torch.tensor([3, 0, 2, 1]), torch.tensor([4, 0, 2, 1, 3])
    columns = torch.tensor([5, 1, 0, 4, 2, 3])
    rotation = torch.linalg.qr(torch.randn(3, 3))[0]
    torch.testing.assert_close(loss(y[samples], x[samples], pairs[samples]), value)
    torch.testing.assert_close(loss(y[:, rows], x, pairs[:, rows]), value)
    torch.testing.assert_close(loss(y, x[:, columns], pairs[:, :, columns]), value)
    torch.testing.assert_close(loss(y * 3, x * 0.2, pairs), value)
    torch.testing.assert_close(loss(y @ rotation, x @ rotation, pairs), value)
    torch.testing.assert_close(loss(x, y, pairs.transpose(1, 2)), value)
    assert not torch.isclose(loss(y[:, rows], x, pairs), value)


def test_following_the_gradient_lowers_it_and_targets_have_none():
    y, x, pairs = cells()
    loss, values = PixelConsistency(), []
    y, x = y.requires_grad_(), x.requires_grad_()
    for _ in range(5):
        value = loss(y, x, pairs)
        (gradient,) = torch.autograd.grad(value, y)
        with torch.no_grad():
            y -= 10 * gradient
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1
    assert torch.autograd.grad(loss(y, x, pairs), x, allow_unused=True) == (None,)


def test_gradient_agrees_with_finite_differences():
    y, x, pairs = cells()
    wide = x.double()
    y = y.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: PixelConsistency()(rows, wide, pairs), y)


def test_computes_in_float32_inside_autocast():
    y, x, pairs = cells()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = PixelConsistency()(y, x, pairs)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, PixelConsistency()(y, x, pairs))


def test_refusals():
    y, x, pairs = cells()
    for wrong in (
        (y, x[..., :2], pairs),
        (y, x, pairs[:, :4]),
        (y[0], x, pairs),
        (y, x[:3], pairs),
    ):
        with pytest.raises(ValueError, match=r"by pairs \(B, P, Q\)"):
            PixelConsistency()(*wrong)
