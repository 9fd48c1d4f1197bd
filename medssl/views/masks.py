"""Masks over the grid of cells that masked methods hide: True = masked (hidden)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.views.draw import Draw


def masked_count(grid: Sequence[int], ratio: float) -> int:
    """How many cells of `grid` a `ratio` hides: the nearest whole number, in every sample.

    Raises:
        ValueError: the ratio is outside [0, 1].
    """
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"the mask ratio must lie in [0, 1], not {ratio}")
    return round(ratio * math.prod(grid))


def random_mask(draw: Draw, grid: Sequence[int], ratio: float) -> Tensor:
    """Cells hidden uniformly at random, the same number in every sample (He et al. 2022, sec. 3).

    Returns:
        bool (B, 1, *grid), True = masked, with exactly `masked_count(grid, ratio)` True a sample.
    """
    count = masked_count(grid, ratio)
    order = draw.permutation(math.prod(grid))
    mask = torch.zeros_like(order, dtype=torch.bool)
    mask.scatter_(1, order[:, :count], True)
    return mask.reshape(len(order), 1, *grid)


def upsample_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """The mask on a finer grid: bool (B, 1, *grid) -> bool (B, 1, *size), each cell a block.

    Raises:
        ValueError: `size` is not a whole multiple of the grid along every axis.
    """
    grid = tuple(mask.shape[2:])
    if len(grid) != len(size) or any(s % g for s, g in zip(size, grid, strict=True)):
        raise ValueError(f"a mask of {grid} cells does not divide a grid of size {tuple(size)}")
    if grid == tuple(size):
        return mask
    return F.interpolate(mask.to(torch.float32), size=tuple(size), mode="nearest") > 0.5
