"""Blur and low resolution: along each axis by itself, as one matrix a sample.

A matrix product takes any sigma and factor of every sample in one call. On a CPU it is faster than
sums of shifted images in 3D and at small sizes, and its equal at 224 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.change import Change, on_picked, one_of, per_sample

_NOTHING = 1e-8  # a weight that no float32 sum sees; denormal ones make products 10 times slower


@dataclass(frozen=True)
class Blur(Change):
    """Gaussian blur; outside the image its edge is repeated.

    Attributes:
        sigma: float32 (B, 3), along each axis (the first two in 2D), 0 for none.
        in_mm: sigma is in mm, not in voxels.
    """

    sigma: Tensor
    in_mm: bool

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        sigma = self.sigma[:, : batch.ndim - 2]
        if self.in_mm:
            sigma = sigma / per_sample(spacing, batch)
        return on_picked((self.sigma > 0).any(1), gaussian_blur, batch, sigma)


@dataclass(frozen=True)
class LowResolution(Change):
    """As if scanned on a coarser grid, along all axes or along one (thick slices).

    Attributes:
        everywhere: factor along all axes, float32 (B,), 1 for none.
        slices: factor along one axis, float32 (B,), 1 for none.
        axis: float32 (B,) in [0, 1), which axis that is.
    """

    everywhere: Tensor
    slices: Tensor
    axis: Tensor

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        dims = batch.ndim - 2
        thick = one_of(self.axis, dims)
        for axis in range(dims):
            factor = self.everywhere * self.slices.where(thick == axis, 1.0)
            length = batch.shape[2 + axis]

            def change(part: Tensor, factor: Tensor, n: int = length, at: int = axis) -> Tensor:
                return along(part, coarse_matrix(factor, n), at)

            batch = on_picked(factor > 1.0, change, batch, factor)
        return batch


def gaussian_blur(batch: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with one sigma a sample and axis; the edge voxel is repeated outside.

    Args:
        batch: float32 (B, C, *spatial).
        sigma: voxels, (B, d); 0 leaves a sample as it is.
    """
    for axis in range(batch.ndim - 2):
        batch = along(batch, gaussian_matrix(sigma[:, axis], batch.shape[2 + axis]), axis)
    return batch


def coarsen(batch: Tensor, factor: Tensor) -> Tensor:
    """As if scanned on a grid coarser by `factor` along every axis and interpolated back.

    Args:
        batch: float32 (B, C, *spatial).
        factor: (B,), at least 1; 1 leaves a sample as it is.
    """
    for axis in range(batch.ndim - 2):
        batch = along(batch, coarse_matrix(factor, batch.shape[2 + axis]), axis)
    return batch


def along(batch: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Every line of voxels along an axis, times its sample's matrix.

    Args:
        batch: float32 (B, C, *spatial).
        matrix: float32 (B, n, n), new voxel by old voxel.
        axis: spatial axis, of n voxels.
    """
    shape = batch.shape
    if axis == len(shape) - 3:
        lines = batch.reshape(shape[0], -1, shape[-1])
        return torch.bmm(lines, matrix.transpose(1, 2)).reshape(shape)
    planes = batch.reshape(shape[0], math.prod(shape[1 : 2 + axis]), shape[2 + axis], -1)
    return torch.matmul(matrix[:, None], planes).reshape(shape)


def gaussian_matrix(sigma: Tensor, length: int) -> Tensor:
    """A blur along `length` voxels whose edges are repeated outside: (B, length, length)."""
    lag = torch.arange(length, device=sigma.device)
    kernel = torch.exp(-0.5 * (lag / sigma.clamp(min=1e-4)[:, None]).square())
    kernel = kernel / (2.0 * kernel.sum(1, keepdim=True) - 1.0)
    kernel = torch.where(kernel < _NOTHING, 0.0, kernel)
    both = torch.cat((kernel[:, 1:].flip(1), kernel), dim=1)
    matrix = both.unfold(1, length, 1).flip(1).contiguous()
    beyond = kernel.flip(1).cumsum(1).flip(1) - kernel  # what lies further out than each lag
    matrix[:, :, 0] += beyond
    matrix[:, :, -1] += beyond.flip(1)
    return matrix


def coarse_matrix(factor: Tensor, length: int) -> Tensor:
    """Averages over coarse voxels, read back linearly between their centres.

    Args:
        factor: fine voxels in a coarse one, (B,), at least 1.
        length: of the axis. The last coarse voxel holds what is left, if that is half or more.

    Returns:
        float32 (B, length, length), each row of sum 1.
    """
    fine = torch.arange(length, device=factor.device)
    size = factor[:, None]
    last = ((length / size).round() - 1.0).clamp(min=0.0)
    place = ((fine + 0.5) / size - 0.5).clamp(min=0.0).minimum(last)
    below = place.floor()

    def averages(coarse: Tensor) -> Tensor:
        start = (coarse * size)[..., None]
        end = torch.where(coarse == last, float(length), (coarse + 1.0) * size)[..., None]
        overlap = (torch.minimum(end, fine + 1.0) - torch.maximum(start, fine)).clamp(min=0.0)
        return overlap / overlap.sum(2, keepdim=True)

    above = averages((below + 1.0).minimum(last))
    return torch.lerp(averages(below), above, (place - below)[..., None])
