from __future__ import annotations

import pytest
import torch
from method_cases import crops, make

from medssl.losses import normalise_patches
from medssl.views import upsample_mask


@pytest.mark.parametrize("encoder", ["unet", "vit"])
@pytest.mark.parametrize("cell", [4, 8])
@pytest.mark.parametrize("dims", [2, 3])
def test_it_never_sees_masked_voxels_and_scores_only_them(encoder, cell, dims):
    method = make("simmim", encoder, dims, mask_cell=cell, mask_ratio=0.5)
    image, mask = method._masked(crops(2, dims))
    hidden = upsample_mask(mask, image.shape[2:])
    features = method._encoded(image, mask)
    changed = method._encoded(torch.where(hidden, 50 * torch.randn_like(image), image), mask)
    assert all(torch.equal(a, b) for a, b in zip(features, changed, strict=True))
    error = (method.head(features) - image).abs()
    torch.testing.assert_close(method.step(crops(2, dims)).loss, error[hidden].mean())
    # Masked places answer: the whole image goes through the encoder.
    at = upsample_mask(mask, features[-1].shape[2:]).expand_as(features[-1])
    assert features[-1][at].any()


@pytest.mark.parametrize("encoder", ["unet", "vit"])
def test_the_token_is_what_masked_places_hold(encoder):
    method = make("simmim", encoder)
    image, mask = method._masked(crops())
    before = method._encoded(image, mask)[-1]
    with torch.no_grad():
        method.mask_token.add_(1)
    assert not torch.allclose(method._encoded(image, mask)[-1], before)
    nothing = torch.zeros_like(mask)
    torch.testing.assert_close(method._encoded(image, nothing)[-1], method.encoder(image)[-1])


@pytest.mark.parametrize("target", ["gradient", "hog"])
@pytest.mark.parametrize("encoder", ["unet", "vit"])
def test_other_targets(encoder, target):
    method = make("simmim", encoder, target=target)
    image, mask = method._masked(crops())
    asked, predicted = method.target(image), method.head(method._encoded(image, mask))
    at = upsample_mask(mask, asked.shape[2:]).expand_as(asked)
    expected = (predicted - asked).abs()[at].mean()
    torch.testing.assert_close(method.step(crops()).loss, expected)


def test_normalised_patches():
    method = make("simmim", normalise_patches=True)
    image, mask = method._masked(crops())
    hidden = upsample_mask(mask, image.shape[2:])
    error = method.head(method._encoded(image, mask)) - normalise_patches(image, mask.shape[2:])
    torch.testing.assert_close(method.step(crops()).loss, error.abs()[hidden].mean())
    # Shown in the image's own units again.
    shown = method.preview(crops())["reconstruction"]
    assert (shown[hidden] - image[hidden]).abs().mean() < 2 * image.std()
