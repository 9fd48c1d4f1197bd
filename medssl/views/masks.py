"""Masks over the grid of cells that masked methods hide: True = masked (hidden).

Every mask hides exactly as many cells in every sample, so that an encoder of visible tokens alone
gets a rectangular batch. A sample's mask depends on its key alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.views.change import one_of
from medssl.views.draw import Draw

# How often boxes cover a cell on average: more than enough for three quarters of all cells.
_COVERED = 1.8


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

    For a convolutional net take the grid of its total stride, and `upsample_mask` for each stage.

    Returns:
        bool (B, 1, *grid), True = masked, with exactly `masked_count(grid, ratio)` True a sample.
    """
    return channel_mask(draw, grid, ratio, 1)


def channel_mask(
    draw: Draw, grid: Sequence[int], ratio: float, channels: int, dropped: int = 0
) -> Tensor:
    """Every channel (modality) hides cells of its own, and some hide all.

    Args:
        draw: of B samples.
        grid: cells along each axis.
        ratio: of the cells that a channel hides.
        channels: of the image.
        dropped: how many channels of each sample are hidden altogether, chosen at random.

    Returns:
        bool (B, channels, *grid), True = masked: exactly `masked_count(grid, ratio)` in every
        channel that is not dropped.

    Raises:
        ValueError: the ratio is outside [0, 1], or not one channel is left.
    """
    if not 0 <= dropped < channels:
        raise ValueError(f"of {channels} channels, {dropped} cannot be dropped")
    count = masked_count(grid, ratio)
    order = draw.bits(channels, math.prod(grid)).argsort(dim=2, stable=True)
    mask = torch.zeros_like(order, dtype=torch.bool).scatter_(2, order[..., :count], True)
    if dropped:
        gone = draw.permutation(channels) < dropped
        mask = mask | gone[..., None]
    return mask.reshape(len(order), channels, *grid)


def block_mask(
    draw: Draw,
    grid: Sequence[int],
    ratio: float,
    *,
    blocks: int = 1,
    aspect: float = 3.0,
    roll: bool = False,
) -> Tensor:
    """Blocks of adjacent cells, of random place and shape, hidden.

    A block grows from its centre at a speed of its own along each axis until the number is
    reached; at the edge of the grid it grows in the other directions. So the number is exact, and
    at most the last layer of cells has a gap. Several blocks grow together and may meet.

    Args:
        draw: of B samples.
        grid: cells along each axis.
        ratio: of cells that are hidden.
        blocks: how many.
        aspect: largest ratio of a block's sides, at least 1.
        roll: the grid has no edge: a block that leaves it comes in at the other side. Then every
            cell is hidden equally often; without, those in the middle are hidden more often.

    Returns:
        bool (B, 1, *grid), True = masked, with exactly `masked_count(grid, ratio)` True a sample.

    Raises:
        ValueError: the ratio is outside [0, 1], there is no block, or the aspect is below 1.
    """
    return _smallest(_growth(draw, grid, blocks, aspect, roll), grid, masked_count(grid, ratio))


def inverse_block_mask(
    draw: Draw,
    grid: Sequence[int],
    ratio: float,
    *,
    blocks: int = 1,
    aspect: float = 3.0,
    roll: bool = False,
) -> Tensor:
    """As `block_mask`, but the blocks are what stays visible (Baevski et al. 2023, data2vec 2.0;
    with `roll` as in Franca, Venkataramanan et al. 2025).

    Returns:
        bool (B, 1, *grid), True = masked, with exactly `masked_count(grid, ratio)` True a sample.
    """
    visible = math.prod(grid) - masked_count(grid, ratio)
    return ~_smallest(_growth(draw, grid, blocks, aspect, roll), grid, visible)


def box_mask(draw: Draw, grid: Sequence[int], ratio: Tensor, largest: float = 0.3) -> Tensor:
    """Boxes of random place and sides, one after the other until enough is hidden (GMML, Atito
    et al. 2022). A box may reach over the grid's edge, so that every cell is hidden equally often;
    the last one is cut short, so that the number is exact.

    Args:
        draw: of B samples.
        grid: cells along each axis.
        ratio: of each sample's cells that are hidden, (B,), each in [0, 1].
        largest: longest side of a box over the grid's, in (0, 1]; at least one cell.

    Returns:
        bool (B, 1, *grid), True = masked, in each sample the number nearest to its ratio.

    Raises:
        ValueError: no side is that long.
    """
    if not 0.0 < largest <= 1.0:
        raise ValueError(f"the side of a box is a share in (0, 1], not {largest}")
    dims, cells = len(grid), math.prod(grid)
    longest = [max(1, int(largest * n)) for n in grid]
    means = [(1 + most) / 2 for most in longest]
    share = math.prod(mean / (n + mean - 1) for mean, n in zip(means, grid, strict=True))
    boxes = min(math.ceil(_COVERED / share), torch.iinfo(torch.int16).max - 1)
    sides, places = draw.uniform(0.0, 1.0, boxes, dims), draw.uniform(0.0, 1.0, boxes, dims)
    inside = torch.ones((), dtype=torch.bool, device=sides.device)
    for axis, (n, most) in enumerate(zip(grid, longest, strict=True)):
        side = 1 + one_of(sides[..., axis], most)
        start = (places[..., axis] * (n + side - 1)).long() - side + 1
        cell = torch.arange(n, device=sides.device) - start[..., None]
        shape = [1] * dims
        shape[axis] = n
        hit = (cell >= 0) & (cell < side[..., None])
        inside = inside & hit.reshape(-1, boxes, *shape)
    number = torch.arange(boxes, dtype=torch.int16, device=sides.device)
    first = number.reshape(-1, *(1,) * dims).where(inside, boxes).amin(1).flatten(1)
    # What no box reached, if it is needed, is taken cell by cell.
    key = first + draw.uniform(0.0, 1.0, cells) * (first == boxes)
    order = key.argsort(dim=1, stable=True)
    hidden = torch.arange(cells, device=ratio.device) < (ratio * cells).round()[:, None]
    return torch.zeros_like(hidden).scatter(1, order, hidden).reshape(len(order), 1, *grid)


def _growth(draw: Draw, grid: Sequence[int], blocks: int, aspect: float, roll: bool) -> Tensor:
    """When the blocks reach each cell: float32 (B, cells).

    The time is a scaled Chebyshev distance, whose balls are boxes. A small share of the sum of the
    distances is added: one step to the centre then always lowers the time, so what is reached
    before any moment hangs together.
    """
    if blocks < 1 or aspect < 1.0:
        raise ValueError(f"there is no mask of {blocks} blocks of aspect {aspect}")
    dims = len(grid)
    stretch = math.log(aspect) / 2
    speed = draw.uniform(-stretch, stretch, blocks, dims).exp()
    centre = draw.uniform(0.0, 1.0, blocks, dims)
    farthest = total = torch.zeros((), device=speed.device)
    for axis, length in enumerate(grid):
        cell = torch.arange(length, device=speed.device)
        distance = (cell + 0.5 - centre[..., axis, None] * length).abs()
        if roll:
            distance = torch.minimum(distance, length - distance)
        shape = [1] * dims
        shape[axis] = length
        time = (distance / speed[..., axis, None]).reshape(-1, blocks, *shape)
        farthest, total = torch.maximum(farthest, time), total + time
    return (farthest + 1e-3 * total).amin(1).flatten(1)


def _smallest(values: Tensor, grid: Sequence[int], count: int) -> Tensor:
    """True at the `count` smallest of every sample: bool (B, 1, *grid)."""
    order = values.argsort(dim=1, stable=True)
    mask = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :count], True)
    return mask.reshape(len(values), 1, *grid)


def upsample_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """The mask on a finer grid: bool (B, C, *grid) -> bool (B, C, *size), each cell a block.

    Raises:
        ValueError: `size` is not a whole multiple of the grid along every axis.
    """
    grid = tuple(mask.shape[2:])
    if len(grid) != len(size) or any(s % g for s, g in zip(size, grid, strict=True)):
        raise ValueError(f"a mask of {grid} cells does not divide a grid of size {tuple(size)}")
    if grid == tuple(size):
        return mask
    return F.interpolate(mask.to(torch.float32), size=tuple(size), mode="nearest") > 0.5
