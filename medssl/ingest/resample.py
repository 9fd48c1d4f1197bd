"""Sheared or unevenly spaced slices onto one orthogonal grid: images linearly, labels not.

A tilted gantry shears the stack: each slice lies a little further sideways than the one below it.
Every slice is moved to where it belongs within its own plane, so no value travels between slices.
Unevenly spaced slices are interpolated along their normal, which is done on request alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.store.original import OriginalGrid

Array = npt.NDArray[Any]

MOST_SLICES = 4
"""How many times more slices an even spacing may need than there are."""
_ON_SLICE = 1e-6  # what is this close to a slice or pixel, in voxels, lies on it
_FLOAT32_WHOLE = 2**24  # float32 holds all whole numbers up to it


@dataclass(frozen=True)
class Target:
    """The orthogonal grid of a stack.

    Attributes:
        affine: 4x4 float64, voxel (column, row, slice) to RAS mm.
        shape: (columns, rows, slices): enlarged so that every original voxel is inside.
        shifts: float64 (slice, 2), column and row of the target where each slice's first pixel
            lies.
        heights: float64 (slice,), the same along the third axis.
    """

    affine: Array
    shape: tuple[int, int, int]
    shifts: Array
    heights: Array


def target_grid(grid: OriginalGrid) -> Target:
    """The orthogonal grid for slices, with their directions and pixel spacing in the plane.

    Evenly spaced slices keep their heights. Others get the smallest of their gaps, made a little
    smaller so that the first and the last slice stay where they are.

    Raises:
        MedsslError: SPACING_UNEVEN where that needs more than :data:`MOST_SLICES` times as many
            slices as there are.
    """
    matrix, steps = grid.matrix, grid.steps
    column, row, step = (matrix[:3, axis] for axis in range(3))
    normal = np.cross(column, row)
    normal /= np.linalg.norm(normal)
    normal *= np.sign(step @ normal)
    heights = steps * float(step @ normal)
    gaps = np.diff(heights)
    count = len(steps) - 1
    if grid.positions:
        count = int(np.ceil(heights[-1] / gaps.min() - 0.01))
        if count >= MOST_SLICES * len(steps):
            raise MedsslError(
                "SPACING_UNEVEN", f"{len(steps)} slices would need {count + 1} of even spacing"
            )
    spacing = heights[-1] / count
    sideways = step - (step @ normal) * normal
    shifts = np.outer(steps, [sideways @ axis / (axis @ axis) for axis in (column, row)])
    low = np.ceil(shifts.min(axis=0) - 0.5)
    high = np.floor(shifts.max(axis=0) + np.array(grid.shape[:2]) - 0.5)
    columns, rows = (int(n) for n in high - low + 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([column, row, normal * spacing], axis=1)
    affine[:3, 3] = matrix[:3, 3] + low[0] * column + low[1] * row
    return Target(affine, (columns, rows, count + 1), shifts - low, heights / spacing)


def resample(read: Callable[[int], Array], grid: OriginalGrid) -> Array:
    """Put slices on their :func:`target_grid`.

    Args:
        read: slice k of the grid as (column, row), real and finite; asked for in ascending order,
            each once.
        grid: where the slices lie.

    Returns:
        (column, row, slice). Linear, rounded to whole numbers where all slices are integers. What
        is further than half a pixel outside of a slice has the lowest value of all slices.
    """
    target = target_grid(grid)
    moved = _Moved(read, target)
    planes = []
    for index in range(target.shape[2]):
        below = int(np.searchsorted(target.heights, index + _ON_SLICE)) - 1
        below = min(max(below, 0), len(target.heights) - 2)
        bottom, top = target.heights[below : below + 2]
        share = (index - bottom) / (top - bottom)
        if share <= _ON_SLICE:
            plane = moved.slice(below)
        elif share >= 1 - _ON_SLICE:
            plane = moved.slice(below + 1)
        else:
            plane = (1 - share) * moved.slice(below) + share * moved.slice(below + 1)
        planes.append(_compact(np.rint(plane) if moved.whole else plane))
    for index in range(len(target.heights)):  # none stays unread: the lowest value is of all
        moved.slice(index)
    filled = np.stack([np.where(np.isnan(p), moved.lowest, p) for p in planes], axis=-1)
    if not moved.whole:
        return filled.astype(np.float32)
    return filled.astype(np.int32 if filled.dtype == np.float32 else np.int64)


def resample_label(label: Array, grid: OriginalGrid) -> Array:
    """Put a label map on the :func:`target_grid` of its slices, by nearest neighbour.

    Each voxel has the value of the nearest voxel of the nearest slice, the slice moved within its
    plane as :func:`resample` moves that of the image. Halfway, the lower column, row and slice
    count: :func:`medssl.store.original.to_original` then leads back to the same voxels.

    Args:
        label: (column, row, slice).
        grid: where the slices lie.

    Returns:
        (column, row, slice) in the dtype of ``label``; 0 further than half a pixel outside.
    """
    target = target_grid(grid)
    out = np.zeros(target.shape, dtype=label.dtype)
    between = (target.heights[1:] + target.heights[:-1]) / 2
    nearest = np.searchsorted(between, np.arange(target.shape[2]) - _ON_SLICE)
    for plane, index in zip(np.moveaxis(out, -1, 0), nearest.tolist(), strict=True):
        source = label[..., index]
        places = [
            np.ceil(np.arange(size) - shift - 0.5 - _ON_SLICE).astype(np.int64)
            for size, shift in zip(plane.shape, target.shifts[index], strict=True)
        ]
        inside = [(p >= 0) & (p < n) for p, n in zip(places, source.shape, strict=True)]
        rows = np.ix_(*(p[kept] for p, kept in zip(places, inside, strict=True)))
        plane[np.ix_(*inside)] = source[rows]
    return out


class _Moved:
    """Slices at their place in the plane of the target, the last two kept."""

    def __init__(self, read: Callable[[int], Array], target: Target) -> None:
        self._read, self._target = read, target
        self._kept: dict[int, Array] = {}
        self._next = 0
        self.lowest, self.whole = np.inf, True

    def slice(self, index: int) -> Array:
        """(column, row) float64 on the target; NaN outside of the slice."""
        while self._next <= index:
            plane = self._read(self._next)
            self.whole &= bool(np.issubdtype(plane.dtype, np.integer))
            self.lowest = min(self.lowest, float(plane.min()))
            shift, size = self._target.shifts[self._next], self._target.shape
            self._kept[self._next] = shifted(plane, (shift[0], shift[1]), size[:2])
            self._kept.pop(self._next - 2, None)
            self._next += 1
        return self._kept.get(index, np.empty(0))


def shifted(plane: Array, shift: tuple[float, float], size: tuple[int, int]) -> Array:
    """Move a picture by parts of a pixel, linearly.

    Args:
        plane: (column, row).
        shift: where its first pixel lies in the result, pixels.
        size: of the result.

    Returns:
        float64; NaN further than half a pixel outside of the picture.
    """
    moved = np.asarray(plane, dtype=np.float64)
    for axis in (0, 1):
        length = moved.shape[axis]
        if length == size[axis] and abs(shift[axis]) < _ON_SLICE:
            continue
        place = np.arange(size[axis]) - shift[axis]
        inside = (place >= -0.5) & (place <= length - 0.5)
        place = np.clip(place, 0, length - 1)
        low = np.minimum(np.floor(place).astype(np.int64), max(length - 2, 0))
        high = np.minimum(low + 1, length - 1)
        share = np.expand_dims(place - low, 1 - axis)
        moved = np.take(moved, low, axis) * (1 - share) + np.take(moved, high, axis) * share
        moved[tuple(~inside if a == axis else slice(None) for a in (0, 1))] = np.nan
    return moved


def _compact(plane: Array) -> Array:
    """In float32 where that loses nothing that matters: whole numbers stay whole."""
    widest = np.nanmax(np.abs(plane), initial=0.0)
    return plane.astype(np.float32) if widest < _FLOAT32_WHOLE else plane
