from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from medssl.losses import MaskedMSE, denormalise_patches, normalise_patches
from medssl.networks.patches import split_patches


def slow(prediction: Tensor, target: Tensor, mask: Tensor, normalise: bool) -> float:
    """Patch by patch, in float64."""
    grid = mask.shape[2:]
    sides = [s // g for s, g in zip(target.shape[2:], grid, strict=True)]
    errors = []
    for b in range(len(target)):
        for cell in itertools.product(*(range(g) for g in grid)):
            if not mask[(b, 0, *cell)]:
                continue
            box = tuple(slice(c * s, (c + 1) * s) for c, s in zip(cell, sides, strict=True))
            guess = prediction[(b, slice(None), *box)].double()
            truth = target[(b, slice(None), *box)].double()
            if normalise:
                truth = (truth - truth.mean()) / (truth.var() + 1e-6).sqrt()
            errors.append(float((guess - truth).square().mean()))
    return sum(errors) / len(errors)


def case(dims: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    size, grid = ((6, 8), (3, 2)) if dims == 2 else ((6, 8, 4), (3, 2, 2))
    prediction, target = torch.randn(2, 2, 2, *size, generator=generator)
    mask = torch.rand(2, 1, *grid, generator=generator) < 0.6
    return prediction, target * 3 + 1, mask


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_agrees_with_a_loop(dims: int, normalise: bool):
    prediction, target, mask = case(dims)
    got = MaskedMSE(normalise)(prediction, target, mask)
    assert float(got) == pytest.approx(slow(prediction, target, mask, normalise), rel=1e-5)


def test_visible_patches_do_not_count():
    prediction, target, mask = case(2)
    value = MaskedMSE()(prediction, target, mask)
    seen = ~mask.repeat_interleave(2, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(MaskedMSE()(prediction + 100 * seen, target, mask), value)
    assert MaskedMSE()(prediction + 100 * ~seen, target, mask) > value + 1000


def test_known_values():
    target = torch.zeros(1, 1, 4, 4)
    mask = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    assert MaskedMSE()(target + 3, target, mask) == 0
    mask[..., 0, 0] = True
    assert MaskedMSE()(target + 3, target, mask) == 9


def test_normalised_target_forgets_brightness_and_contrast_of_patches():
    prediction, target, mask = case(3)
    loss = MaskedMSE(normalise_patches=True)
    torch.testing.assert_close(
        loss(prediction, target * 5 + 7, mask), loss(prediction, target, mask), rtol=1e-4, atol=0
    )


def test_denormalise_inverts():
    _, target, mask = case(3)
    grid = mask.shape[2:]
    flat = denormalise_patches(torch.zeros_like(target), target, grid)
    # Each patch is its own mean, over channels too.
    assert torch.allclose(flat[0, :, :2, :4, :2], target[0, :, :2, :4, :2].mean())
    cells = target.reshape(2, 2, 3, 2, 2, 4, 2, 2)
    std, mean = torch.std_mean(cells, (1, 3, 5, 7), keepdim=True)
    normal = ((cells - mean) / std).reshape(target.shape)
    torch.testing.assert_close(normalise_patches(target, grid), normal, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        denormalise_patches(normal, target, grid), target, rtol=1e-4, atol=1e-4
    )
    assert float(MaskedMSE(True)(normal, target, mask)) < 1e-6


def test_following_the_gradient_lowers_it():
    prediction, target, mask = case(2)
    prediction.requires_grad_()
    before = MaskedMSE(True)(prediction, target, mask)
    (gradient,) = torch.autograd.grad(before, prediction)
    assert MaskedMSE(True)(prediction - gradient, target, mask) < before
    seen = ~mask.repeat_interleave(2, 2).repeat_interleave(4, 3).expand_as(gradient)
    assert not gradient[seen].any()


def test_half_precision_is_computed_in_float32():
    prediction, target, mask = case(2)
    got = MaskedMSE()(prediction.bfloat16(), target, mask)
    assert got.dtype == torch.float32
    assert torch.equal(got, MaskedMSE()(prediction.bfloat16().float(), target, mask))


def test_refusals():
    image = torch.zeros(2, 1, 6, 6)
    mask = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="the same shape"):
        MaskedMSE()(image, image[:1], mask)
    with pytest.raises(ValueError, match=r"\(B, 1, \*grid\)"):
        MaskedMSE()(image, image, mask[..., 0])
    with pytest.raises(ValueError, match="does not divide"):
        MaskedMSE()(image, image, torch.zeros(2, 1, 4, 3, dtype=torch.bool))


@pytest.mark.parametrize("normalise", [False, True])
def test_patches_alone_give_the_number_of_the_images(normalise: bool):
    prediction, target, _ = case(2)
    mask = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 1]]).bool()  # three of each
    rows = [split_patches(image, (3, 2))[mask].reshape(2, 3, -1) for image in (prediction, target)]
    loss = MaskedMSE(normalise)
    whole = loss(prediction, target, mask.reshape(2, 1, 3, 2))
    torch.testing.assert_close(loss.of_patches(*rows), whole)
    if not normalise:
        assert loss.of_patches(rows[0][:, :0], rows[1][:, :0]) == 0
    half = loss.of_patches(rows[0].bfloat16(), rows[1])
    assert half.dtype == torch.float32
    with pytest.raises(ValueError, match="must both be"):
        loss.of_patches(rows[0], rows[1][:, :2])
