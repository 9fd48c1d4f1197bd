"""Blur, low resolution, thick slices: along each axis by itself, as one matrix a sample.

A matrix product takes any sigma and factor of every sample in one call. On a CPU it is faster than
sums of shifted images; grouped convolutions are faster with the narrowest kernels in 2D alone, and
many times slower with wide ones. `benchmarks/intensity.py` has the cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.change import Change, on_picked, one_of, per_sample

_NOTHING = 1e-8  # a weight that no float32 sum sees; denormal ones make products 10 times slower


@dataclass(frozen=True)
class Blur(Change):
    """Gaussian blur; outside the image its edge is repeated.

    Attributes:
        sigma: float32, 0 for none: (B, 1), the same along all axes, or (B, 3) (in 2D the first
            two are used).
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
    """As if scanned on a grid coarser along all axes.

    Attributes:
        factor: float32 (B,), 1 for none.
    """

    factor: Tensor

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        return on_picked(self.factor > 1.0, coarsen, batch, self.factor)


@dataclass(frozen=True)
class ThickSlices(Change):
    """As if scanned on a grid coarser along one axis.

    Attributes:
        factor: float32 (B,), 1 for none.
        axis: float32 (B,) in [0, 1), which axis that is.
    """

    factor: Tensor
    axis: Tensor

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        dims = batch.ndim - 2
        thick = one_of(self.axis, dims)
        for axis in range(dims):

            def change(part: Tensor, factor: Tensor, axis: int = axis) -> Tensor:
                return along(part, coarse_matrix(factor, part.shape[2 + axis]), axis)

            picked = (self.factor > 1.0) & (thick == axis)
            batch = on_picked(picked, change, batch, self.factor)
        return batch


def gaussian_blur(batch: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with one sigma a sample and axis; the edge voxel is repeated outside.

    Args:
        batch: float32 (B, C, *spatial).
        sigma: voxels, (B, d), or (B, 1) for all axes; 0 leaves a sample as it is.
    """
    if sigma.shape[1] == 1:
        return _along_all(batch, lambda length: gaussian_matrix(sigma[:, 0], length))
    for axis in range(batch.ndim - 2):
        batch = along(batch, gaussian_matrix(sigma[:, axis], batch.shape[2 + axis]), axis)
    return batch


def coarsen(batch: Tensor, factor: Tensor) -> Tensor:
    """As if scanned on a grid coarser by `factor` along every axis and interpolated back.

    Args:
        batch: float32 (B, C, *spatial).
        factor: (B,), at least 1; 1 leaves a sample as it is.
    """
    return _along_all(batch, lambda length: coarse_matrix(factor, length))


def _along_all(batch: Tensor, matrix: Callable[[int], Tensor]) -> Tensor:
    """The same along every axis; axes of one length share their matrices."""
    made: dict[int, Tensor] = {}
    for axis, length in enumerate(batch.shape[2:]):
        if length not in made:
            made[length] = matrix(length)
        batch = along(batch, made[length], axis)
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
    size = factor[:, None]
    last = ((length / size).round() - 1.0).clamp(min=0.0)
    middle = torch.arange(length, device=factor.device) + 0.5
    place = (middle / size - 0.5).clamp(min=0.0).minimum(last)  # in coarse voxels
    below = place.floor()
    edges = torch.arange(length + 1, device=factor.device)

    def reached(coarse: Tensor) -> Tensor:
        """The share of a coarse voxel that lies before each edge of the fine ones."""
        start = coarse * size
        extent = torch.where(coarse == last, length - start, size)
        return torch.addcmul(-(start / extent)[..., None], edges, (1.0 / extent)[..., None]).clamp_(
            0.0, 1.0
        )

    share = reached(below).lerp_(reached((below + 1.0).minimum(last)), (place - below)[..., None])
    return share[..., 1:] - share[..., :-1]
