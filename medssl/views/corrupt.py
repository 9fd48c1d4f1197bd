"""Corruption instead of masking: what is hidden is replaced by noise or by another image."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.views.change import each, moments
from medssl.views.draw import Draw
from medssl.views.style import partners


def corrupt(image: Tensor, mask: Tensor, draw: Draw, noise_share: float = 0.5) -> Tensor:
    """Masked voxels become noise, or those of another image at the same place (GMML, Atito
    et al. 2022).

    Args:
        image: float32 (B, C, *spatial).
        mask: bool (B, 1 or C, *spatial), True = to be replaced; see `upsample_mask`.
        draw: of the same samples.
        noise_share: of the samples that get noise, of each channel's mean and deviation; the
            others get another image of the batch, the next in a random order, which depends on
            who else is in the batch.

    Returns:
        float32 (B, C, *spatial), the image where the mask is False.
    """
    noisy = each(draw.bernoulli(noise_share), image)
    other = image.index_select(0, partners(draw.uniform(0.0, 1.0)))
    mean, deviation = moments(image)
    noise = torch.addcmul(mean, draw.normal(*image.shape[1:]), deviation)
    return torch.where(mask, torch.where(noisy, noise, other), image)
