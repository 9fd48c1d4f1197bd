"""Corruption of views as GMML does it: random boxes that show noise, or another image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from medssl.methods.base import MethodConfig
from medssl.methods.masked import cells_of
from medssl.networks import Encoder
from medssl.processes import gather_rows, world
from medssl.views import Draw, box_mask, corrupt, upsample_mask
from medssl.views.style import partners


class CorruptionConfig(MethodConfig):
    """Which part of a view is replaced, and by what."""

    mask_cell: int = Field(
        0, ge=0, description="edge in voxels of the cells boxes consist of; 0: the total stride"
    )
    largest_block: float = Field(
        0.3, gt=0, le=1, description="longest side of a box over the view's"
    )
    noise_share: float = Field(
        0.5, ge=0, le=1, description="of the samples that get noise; the others get another image"
    )
    noise_ratio: tuple[float, float] = Field(
        (0.5, 0.75), description="range of the share of a view that noise replaces"
    )
    copy_ratio: float = Field(
        0.3, gt=0, lt=1, description="share of a view that another image replaces"
    )


class Corruption:
    """Spoils views.

    Args:
        config: how.
        encoder: whose total stride is the smallest cell.
        size: voxels of a view.
    """

    def __init__(self, config: CorruptionConfig, encoder: Encoder, size: Sequence[int]) -> None:
        self._config, self._grid = config, cells_of(size, config.mask_cell, encoder)

    @torch.no_grad()
    def apply(self, image: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Spoilt views (B, C, *size), and where: bool (B, 1, *size).

        The other image is one of the batch of all processes, so that how many there are does not
        matter; where a sample is alone, it gets noise.
        """
        config, count = self._config, len(image)
        rank, size = world()
        noisy = draw.bernoulli(config.noise_share)
        if count * size == 1:
            noisy = torch.ones_like(noisy)
        share = draw.uniform(*config.noise_ratio).where(noisy, config.copy_ratio)
        cells = box_mask(draw.fork(1), self._grid, share, config.largest_block)
        mask = upsample_mask(cells, image.shape[2:])
        giver = partners(gather_rows(draw.uniform(0.0, 1.0)))
        other = gather_rows(image)[giver[rank * count : (rank + 1) * count]]
        return corrupt(image, mask, draw.fork(2), noisy=noisy, other=other), mask
