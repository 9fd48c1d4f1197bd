"""Cutting images into patches and putting them together again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """(B, C, *spatial) with the last voxel repeated until `multiple` divides every axis."""
    after = [-size % multiple for size in x.shape[2:]]
    if not any(after):
        return x
    return F.pad(x, [n for size in reversed(after) for n in (0, size)], mode="replicate")


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels along each spatial axis: undoes `pad_to_multiple`."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, 0, length)
    return x


def split_patches(image: Tensor, grid: Sequence[int]) -> Tensor:
    """(B, C, *spatial) -> (B, cells, C x voxels of a patch), cells in row-major order of the grid.

    Raises:
        ValueError: the grid does not divide the image.
    """
    batch, channels, *spatial = image.shape
    dims = len(grid)
    if dims != len(spatial) or any(s % g for s, g in zip(spatial, grid, strict=True)):
        raise ValueError(f"a grid of {tuple(grid)} cells does not divide an image of {spatial}")
    split = [n for s, g in zip(spatial, grid, strict=True) for n in (g, s // g)]
    cells = [2 + 2 * axis for axis in range(dims)]
    voxels = [3 + 2 * axis for axis in range(dims)]
    parts = image.reshape(batch, channels, *split).permute(0, *cells, 1, *voxels)
    return parts.reshape(batch, math.prod(grid), -1)


def take_patches(patches: Tensor, numbers: Tensor) -> Tensor:
    """Some patches of every image: (B, cells, V) and int64 (B, K), their numbers -> (B, K, V)."""
    batch, cells, voxels = patches.shape
    first = torch.arange(batch, device=numbers.device)[:, None] * cells
    rows = patches.reshape(-1, voxels).index_select(0, (numbers + first).flatten())
    return rows.view(batch, -1, voxels)


def join_patches(patches: Tensor, grid: Sequence[int], size: Sequence[int]) -> Tensor:
    """The inverse of `split_patches`: (B, cells, C x voxels of a patch) -> (B, C, *size).

    Raises:
        ValueError: the grid does not divide `size`.
    """
    dims = len(grid)
    if dims != len(size) or any(s % g for s, g in zip(size, grid, strict=True)):
        raise ValueError(f"a grid of {tuple(grid)} cells does not divide an image of {tuple(size)}")
    patch = [s // g for s, g in zip(size, grid, strict=True)]
    parts = patches.reshape(len(patches), *grid, -1, *patch)
    order = [axis for k in range(dims) for axis in (1 + k, 2 + dims + k)]
    joined = parts.permute(0, 1 + dims, *order)
    return joined.reshape(len(patches), joined.shape[1], *size)
