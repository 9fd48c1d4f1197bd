"""Reading views from crops: one pass over the voxels of the views, whatever was composed.

On a CPU, torch's 3D `grid_sample` works voxel by voxel, its 2D one on whole vectors. So a volume is
read as a picture whose rows are its first two axes, once at the slice below and once at the slice
above, and the two are blended: the same trilinear interpolation in less than half the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.views import warp

Padding = Literal["zeros", "border", "reflection"]

# Rows of the picture. Their coordinates are float32: with so many, places are right to 0.002 voxel
# at worst (0.0002 on average), with those of a crop of 96^3 to 0.001.
_MOST_ROWS = 1 << 14
# Voxels worked on at a time on a CPU, so that what lies between two operations stays in its cache.
_AT_ONCE = 1 << 19


@torch.no_grad()
def resample(
    batch: Tensor,
    matrix: Tensor,
    size: Sequence[int],
    mode: Literal["linear", "nearest"] = "linear",
    padding: Padding = "border",
    displacement: Tensor | None = None,
) -> Tensor:
    """Reads views of `size` from every crop, in one pass; crops are not repeated in memory.

    Args:
        batch: (B, C, *crop), any type. Label maps keep their type under "nearest".
        matrix: (n B, d, d + 1), from `view_to_crop`; row k B + b is view k of crop b.
        size: voxels of the views.
        mode: "linear" or "nearest".
        padding: what lies outside the crop.
        displacement: control points of an elastic warp (n B, d, *nodes), in voxels of the crop.

    Returns:
        (n B, C, *size): float32 under "linear", the type of `batch` under "nearest".
    """
    size = tuple(size)
    device = batch.device
    if len(batch) == 1 and device.type == "cpu":
        # torch shares work among samples: views of a lone crop must be samples themselves.
        batch = batch.expand(len(matrix), *batch.shape[1:])
    count = len(matrix) // len(batch)
    dtype = torch.float32 if mode == "linear" else batch.dtype
    if device.type != "cpu":
        return _sample(batch.float(), matrix, size, mode, padding, displacement).to(dtype)
    out = torch.empty(len(matrix), batch.shape[1], *size, dtype=dtype)
    fast = len(size) == 3 and mode == "linear" and padding == "border" and _folds(batch)
    step = max(torch.get_num_threads(), _AT_ONCE // math.prod(size))
    for first in range(0, len(batch), step):
        crops = _as_float(batch[first : first + step])
        for start in range(first, count * len(batch), len(batch)):
            rows = slice(start, start + len(crops))
            warped = None if displacement is None else displacement[rows]
            if fast:
                _fold(crops, matrix[rows], size, warped, out[rows])
            else:
                out[rows] = _sample(crops, matrix[rows], size, mode, padding, warped)
    return out


def _as_float(crops: Tensor) -> Tensor:
    """Float32; of crops that are one crop repeated, one is converted."""
    if crops.stride(0) == 0:
        return crops[:1].float().contiguous().expand(crops.shape)
    return crops.float().contiguous()


def _folds(batch: Tensor) -> bool:
    """Whether volumes can be read as pictures: at least two slices, and rows not too many."""
    return batch.shape[2] > 1 and (batch.shape[2] - 1) * batch.shape[3] <= _MOST_ROWS


def _along(row: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A linear function of the view's voxels as two parts whose sum it is.

    Args:
        row: its weights and, last, its value at voxel 0: (n, d + 1).
        size: voxels of the view.

    Returns:
        (n, *size[:-1], 1) and (n, 1, ..., size[-1]).
    """
    flat = (1,) * (len(size) - 1)
    axes = [torch.arange(n, dtype=torch.float32, device=row.device) for n in size]
    near = row[:, -1].reshape(-1, *flat)
    for number, axis in enumerate(axes[:-1]):
        shape = [*flat]
        shape[number] = size[number]
        near = near + row[:, number].reshape(-1, *flat) * axis.reshape(shape)
    return near[..., None], (row[:, -2:-1] * axes[-1]).reshape(-1, *flat, size[-1])


def _fold(
    crops: Tensor, matrix: Tensor, size: tuple[int, ...], displacement: Tensor | None, out: Tensor
) -> None:
    """Trilinear reading of (n, C, X, Y, Z) into `out`, the edge repeated outside."""
    count, channels, depth, height, width = crops.shape
    rows = (depth - 1) * height
    # From voxels to the sampler's -1 to 1, along rows and columns of the picture.
    step, across = 2.0 / max(rows - 1, 1), 2.0 / max(width - 1, 1)
    slices = _float32(height * step)
    # What that number loses as a float32 would add up over the slices: the linear part of it.
    lost = height * step - slices
    x, y, z = matrix.unbind(1)
    first = torch.tensor([0.0, 0.0, 0.0, 1.0])
    y = y * step + (x - 0.5 * first) * lost
    z = z * across - first
    grid = torch.empty(count, *size, 2)
    torch.add(*_along(z, size), out=grid[..., 0])
    above, within = torch.add(*_along(x, size)), torch.add(*_along(y, size))
    if displacement is not None:
        moved = warp.dense(displacement, size)
        grid[..., 0].add_(moved[:, 2], alpha=across)
        above.add_(moved[:, 0])
        within.add_(moved[:, 1], alpha=step)
    # The slice above the last would lie outside the array, so the very end is not quite reached.
    below = above.clamp_(0, (depth - 1) * (1 - 2**-22)).floor()
    above.sub_(below)
    # Nor must the end of a slice be rounded into the first row of the next.
    edge = 2**-24
    # (1 comes off last: small numbers are held more exactly.)
    within.clamp_(edge, (height - 1) * step - edge).sub_(1)
    torch.add(within, below, alpha=slices, out=grid[..., 1])
    grid = grid.reshape(count, -1, size[-1], 2)
    for channel in range(channels):
        volume = crops[:, channel]
        stride = volume.stride(0), height * width, width, 1
        pair = volume.as_strided((count, 2, rows, width), stride, volume.storage_offset())
        read = F.grid_sample(pair, grid, "bilinear", "border", align_corners=True)
        read = read.reshape(count, 2, *size)
        torch.lerp(read[:, 0], read[:, 1], above, out=out[:, channel])


def _float32(value: float) -> float:
    """The nearest number that a float32 holds."""
    return float(torch.tensor(value, dtype=torch.float32))


def _sample(
    crops: Tensor,
    matrix: Tensor,
    size: tuple[int, ...],
    mode: str,
    padding: Padding,
    displacement: Tensor | None,
) -> Tensor:
    """The same by torch's own sampler, in any mode, the views of a crop one behind the other."""
    dims, count = len(size), len(matrix) // len(crops)
    grid = torch.empty(len(matrix), *size, dims, device=matrix.device)
    moved = None if displacement is None else warp.dense(displacement, size)
    half = F.pad(torch.zeros(dims, device=matrix.device), (0, 1), value=0.5)
    for axis, length in enumerate(crops.shape[2:]):
        # Its coordinates run from -1 to 1 between the outer faces, and name the last axis first.
        step = 2.0 / length
        into = grid[..., dims - 1 - axis]
        row = (matrix[:, axis] + half) * step - 2 * half
        torch.add(*_along(row, size), out=into)
        if moved is not None:
            into.add_(moved[:, axis], alpha=step)
    if count > 1:
        grid = grid.reshape(count, len(crops), *grid.shape[1:]).transpose(0, 1)
        grid = grid.reshape(len(crops), count * size[0], *size[1:], dims)
    read = "bilinear" if mode == "linear" else "nearest"
    found = F.grid_sample(crops, grid, read, padding, align_corners=False)
    if count > 1:
        found = found.reshape(len(crops), -1, count, *size).movedim(2, 0)
    return found.reshape(len(matrix), -1, *size)


def copy_voxels(
    batch: Tensor, matrix: Tensor, size: Sequence[int], padding: Padding = "border"
) -> Tensor:
    """Reads views whose voxels are voxels of the crop, without a calculation on their values.

    Args:
        batch: (B, C, *crop), any type.
        matrix: (n B, d, d + 1): whole shifts and mirrors (`SpatialSettings.on_grid`).
        size: voxels of the views.
        padding: what lies outside the crop.

    Returns:
        (n B, C, *size), the type of `batch`.
    """
    total, dims = len(matrix), len(size)
    index: list[Tensor] = [torch.arange(total, device=batch.device) % len(batch)]
    index[0] = index[0].reshape(-1, *(1,) * dims)
    inside = torch.ones((), dtype=torch.bool, device=batch.device)
    for axis, length in enumerate(size):
        step = torch.arange(length, device=batch.device)
        place = matrix[:, axis, axis, None] * step + matrix[:, axis, -1:]
        place = place.round().long()
        side = batch.shape[axis + 2]
        shape = [total, *(1,) * dims]
        shape[axis + 1] = length
        inside = inside & ((place >= 0) & (place < side)).reshape(shape)
        if padding == "reflection":
            place = place.remainder(2 * side)
            place = torch.minimum(place, 2 * side - 1 - place)
        index.append(place.clamp(0, side - 1).reshape(shape))
    found = batch.movedim(1, -1)[tuple(index)].movedim(-1, 1)
    return found * inside[:, None] if padding == "zeros" else found
