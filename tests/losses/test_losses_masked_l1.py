from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.losses import MaskedL1


def slow(prediction: Tensor, target: Tensor, mask: Tensor) -> float:
    """Voxel by voxel, in float64."""
    samples = []
    for guess, truth, hidden in zip(
        prediction.double().numpy(), target.double().numpy(), mask.numpy(), strict=True
    ):
        errors = [
            abs(guess[(c, *place)] - truth[(c, *place)])
            for place in np.argwhere(hidden[0])
            for c in range(len(guess))
        ]
        samples.append(np.mean(errors) if errors else 0.0)
    return float(np.mean(samples))


def case(dims: int) -> tuple[Tensor, Tensor, Tensor]:
    size = (5, 4, 3)[:dims]
    prediction, target = torch.randn(2, 3, 2, *size)
    mask = torch.rand(3, 1, *size) < 0.4
    mask[2] = False
    return prediction, target, mask


@pytest.mark.parametrize("dims", [2, 3])
def test_agrees_with_a_loop(dims):
    arguments = case(dims)
    assert float(MaskedL1()(*arguments)) == pytest.approx(slow(*arguments), rel=1e-5)


def test_known_values():
    image, mask = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    assert MaskedL1()(image + 3, image, mask) == 0
    mask[0, 0, 0, 0] = True
    mask[1] = True
    guess = image.clone()
    guess[0, 0, 0, 0], guess[1, 0, 1, 1], guess[0, 0, 1, 1] = 2, -4, 100
    assert MaskedL1()(guess, image, mask) == (2 + 4 / 4) / 2


def test_samples_count_alike_and_in_any_order_or_share():
    prediction, target, mask = case(2)
    whole = MaskedL1()(prediction, target, mask)
    parts = [MaskedL1()(*(t[k : k + 1] for t in (prediction, target, mask))) for k in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    torch.testing.assert_close(MaskedL1()(prediction.flip(0), target.flip(0), mask.flip(0)), whole)


def test_its_gradient_lowers_it_and_leaves_visible_voxels():
    prediction, target, mask = case(3)
    prediction.requires_grad_()
    before = MaskedL1()(prediction, target, mask)
    (gradient,) = torch.autograd.grad(before, prediction)
    assert MaskedL1()(prediction - 0.1 * gradient, target, mask) < before
    assert not gradient[~mask.expand_as(gradient)].any()


def test_half_precision_is_computed_in_float32():
    prediction, target, mask = case(2)
    got = MaskedL1()(prediction.bfloat16(), target, mask)
    assert got.dtype == torch.float32
    assert torch.equal(got, MaskedL1()(prediction.bfloat16().float(), target, mask))


def test_refusals():
    prediction, target, mask = case(2)
    with pytest.raises(ValueError, match="the same shape"):
        MaskedL1()(prediction, target[:2], mask)
    with pytest.raises(ValueError, match=r"\(B, 1, \*spatial\)"):
        MaskedL1()(prediction, target, mask[..., :2])
