"""Corruption instead of masking: what is hidden is replaced by noise or by another image."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.views.change import each, moments
from medssl.views.draw import Draw
from medssl.views.style import partners


def corrupt(
    image: Tensor,
    mask: Tensor,
    draw: Draw,
    noise_share: float = 0.5,
    *,
    noisy: Tensor | None = None,
    other: Tensor | None = None,
) -> Tensor:
    """Masked voxels become noise, or those of another image at the same place (GMML, Atito
    et al. 2022).

    Args:
        image: float32 (B, C, *spatial).
        mask: bool (B, 1 or C, *spatial), True = to be replaced; see `upsample_mask`.
        draw: of the same samples.
        noise_share: of the samples that get noise, of each channel's mean and deviation; the
            others get another image of the batch, the next in a random order, which depends on
            who else is in the batch.
        noisy: bool (B,), which samples get noise, where that is decided already.
        other: (B, C, *spatial), what is copied into each image, where that is decided already.

    Returns:
        float32 (B, C, *spatial), the image where the mask is False.
    """
    drawn, priority = draw.bernoulli(noise_share), draw.uniform(0.0, 1.0)
    noisy = drawn if noisy is None else noisy
    other = image.index_select(0, partners(priority)) if other is None else other
    mean, deviation = moments(image)
    noise = torch.addcmul(mean, draw.normal(*image.shape[1:]), deviation)
    return torch.where(mask, torch.where(each(noisy, image), noise, other), image)
