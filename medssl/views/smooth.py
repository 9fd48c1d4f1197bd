"""Blur, low resolution, thick slices: along each axis by itself, as one matrix a sample.

A matrix product takes any sigma and factor of every sample in one call; on a CPU in blocks, which
leave out most of the zeros. It is faster there than sums of shifted images; grouped convolutions
are faster with the narrowest kernels in 2D alone, and many times slower with wide ones.
`benchmarks/intensity.py` has the cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.change import Change, on_picked, one_of, per_sample

_NOTHING = 1e-8  # a weight that no float32 sum sees; denormal ones make products 10 times slower
_SIGMAS = 6.1  # from where a Gaussian's weights are below that
_HALF = 0.4247  # standard deviation of a Gaussian over its width at half its height
_SAME = 1.01  # spacings that differ by less are the same
_LEAST_ROWS = 16  # of a matrix that are multiplied at once


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
                matrix = coarse_matrix(factor, part.shape[2 + axis])
                return along(part, matrix, axis, _whole(factor, 2.0))

            picked = (self.factor > 1.0) & (thick == axis)
            batch = on_picked(picked, change, batch, self.factor)
        return batch


def gaussian_blur(batch: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with one sigma a sample and axis; the edge voxel is repeated outside.

    Args:
        batch: float32 (B, C, *spatial).
        sigma: voxels, (B, d), or (B, 1) for all axes; 0 leaves a sample as it is.
    """
    far = _whole(sigma, _SIGMAS)
    if sigma.shape[1] == 1:
        return _along_all(batch, lambda length: gaussian_matrix(sigma[:, 0], length), far)
    for axis in range(batch.ndim - 2):
        batch = along(batch, gaussian_matrix(sigma[:, axis], batch.shape[2 + axis]), axis, far)
    return batch


def equally_sharp(batch: Tensor, spacing: Tensor, voxel: Tensor) -> Tensor:
    """Images blurred along their finer axes, until all axes are as unsharp as the coarsest.

    Resampled to one spacing, an image is still smoother along an axis whose voxels were longer. A
    voxel of s mm is taken for a Gaussian of that width at half its height, and widths add as
    squares: what an axis lacks to the longest s is blurred.

    Args:
        batch: float32 (B, C, *spatial); on a CPU it may be overwritten.
        spacing: mm of the voxels that the images were made from, (B, d).
        voxel: mm of their own, (B, d).
    """
    longest = spacing.amax(1, keepdim=True)
    uneven = longest > spacing.amin(1, keepdim=True) * _SAME
    sigma = _HALF * (longest.square() - spacing.square()).clamp(min=0).sqrt() / voxel
    return on_picked(uneven[:, 0], gaussian_blur, batch, sigma)


def coarsen(batch: Tensor, factor: Tensor) -> Tensor:
    """As if scanned on a grid coarser by `factor` along every axis and interpolated back.

    Args:
        batch: float32 (B, C, *spatial).
        factor: (B,), at least 1; 1 leaves a sample as it is.
    """
    return _along_all(batch, lambda length: coarse_matrix(factor, length), _whole(factor, 2.0))


def _whole(values: Tensor, times: float) -> int | None:
    """A whole number above the largest value times a number; on an accelerator None, for reading
    the value would wait for it."""
    return None if values.device.type != "cpu" else math.ceil(float(values.max()) * times) + 1


def _along_all(batch: Tensor, matrix: Callable[[int], Tensor], reach: int | None) -> Tensor:
    """The same along every axis; axes of one length share their matrices."""
    made: dict[int, Tensor] = {}
    for axis, length in enumerate(batch.shape[2:]):
        if length not in made:
            made[length] = matrix(length)
        batch = along(batch, made[length], axis, reach)
    return batch


def along(batch: Tensor, matrix: Tensor, axis: int, reach: int | None = None) -> Tensor:
    """Every line of voxels along an axis, times its sample's matrix.

    Args:
        batch: float32 (B, C, *spatial).
        matrix: float32 (B, n, n), new voxel by old voxel.
        axis: spatial axis, of n voxels.
        reach: how far from its diagonal the matrix is not zero, where that is known: less is
            multiplied then.
    """
    shape, length = batch.shape, batch.shape[2 + axis]
    before = math.prod(shape[1 : 2 + axis])
    last = axis == len(shape) - 3
    if before > 1 and not last:
        planes = batch.reshape(shape[0], before, length, -1)
        return torch.matmul(matrix[:, None], planes).reshape(shape)
    # The last axis is multiplied from the right, so that lines are read as they lie.
    lines = batch.reshape(shape[0], -1, length) if last else batch.reshape(shape[0], length, -1)
    made = torch.empty_like(lines)
    for first, end, near in _blocks(length, reach):
        block = matrix[:, first:end, near]
        if last:
            torch.bmm(lines[:, :, near], block.transpose(1, 2), out=made[:, :, first:end])
        else:
            torch.bmm(block, lines[:, near], out=made[:, first:end])
    return made.reshape(shape)


def _blocks(length: int, reach: int | None) -> Iterator[tuple[int, int, slice]]:
    """Rows of a matrix by their first and end, and the columns that they reach: all at once where
    blocks would save little."""
    rows = max(_LEAST_ROWS, -(-length // 4))
    if reach is None or rows + 2 * reach > 0.75 * length:
        rows, reach = length, length
    for first in range(0, length, rows):
        end = min(first + rows, length)
        yield first, end, slice(max(0, first - reach), min(length, end + reach))


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
