"""Closed contours as pixels of one plane. Pure functions of numpy arrays, no files.

A pixel belongs to a contour when its centre lies inside. Centres are the points with whole
coordinates, and a centre on an edge belongs to the side with larger coordinates, so that two
contours that share an edge never share a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError

Array = npt.NDArray[Any]

_DIGITS = 6
"""Pixels are known to a millionth: else rounding decides what lies on an edge."""
_CROSSINGS_AT_ONCE = 2**22


def fill(contours: Sequence[Array], shape: tuple[int, int]) -> Array:
    """Fill contours by the even-odd rule: inside is what an odd number of turns encloses.

    Holes are contours inside others, or part of a contour that goes in and out along one line
    (a keyhole). What lies outside the picture is cut off.

    Args:
        contours: each (point, 2) float64, column then row in pixels; the last point is joined to
            the first.
        shape: (rows, columns).

    Returns:
        bool (row, column).
    """
    box, mask = _boxed(contours, shape)
    filled = np.zeros(shape, dtype=bool)
    filled[box] = mask
    return filled


def fill_islands(contours: Sequence[Array], shape: tuple[int, int]) -> Array:
    """Fill the contours of one structure on one plane: islands, holes in them, islands in these.

    The even-odd rule and the union of all agree on islands, and readers differ where contours
    cross or repeat: that is refused.

    Args:
        contours: as of :func:`fill`.
        shape: (rows, columns).

    Returns:
        bool (row, column).

    Raises:
        MedsslError: LABEL_INVALID where one contour is there twice, or two cross.
    """
    if len(contours) == 1:
        return fill(contours, shape)
    corners = {np.unique(np.round(points, 3), axis=0).tobytes() for points in contours}
    if len(corners) < len(contours):
        raise MedsslError("LABEL_INVALID", "A contour of one structure is there twice")
    masks = sorted((_boxed([points], shape) for points in contours), key=lambda m: -int(m[1].sum()))
    innermost = np.zeros(shape, dtype=np.int32)  # the number of the smallest contour around
    depth = [0]
    for number, (box, mask) in enumerate(masks, start=1):
        around = np.unique(innermost[box][mask])
        if len(around) > 1:
            raise MedsslError("LABEL_INVALID", "Two contours of one structure cross in one plane")
        depth.append(depth[int(around[0])] + 1 if len(around) else 0)
        innermost[box][mask] = number
    return np.asarray(np.array(depth)[innermost] % 2 == 1)


def _boxed(contours: Sequence[Array], shape: tuple[int, int]) -> tuple[tuple[slice, slice], Array]:
    """Rows and columns that contours can reach, and the pixels inside by the even-odd rule."""
    low = np.floor(np.min([points.min(axis=0) for points in contours], axis=0))
    high = np.ceil(np.max([points.max(axis=0) for points in contours], axis=0)) + 1
    low = np.clip(low, 0, shape[::-1]).astype(np.int64)
    columns, rows = np.clip(high, low, shape[::-1]).astype(np.int64) - low
    starts = np.concatenate([np.round(points - low, _DIGITS) for points in contours])
    ends = np.concatenate(
        [np.roll(np.round(points - low, _DIGITS), -1, axis=0) for points in contours]
    )
    # Always from the upper end, so that an edge and its way back cross rows at the same places.
    upward = starts[:, 1] > ends[:, 1]
    upper = np.where(upward[:, None], ends, starts)
    lower = np.where(upward[:, None], starts, ends)
    first = np.clip(np.ceil(upper[:, 1]), 0, rows).astype(np.int64)
    count = np.clip(np.ceil(lower[:, 1]), 0, rows).astype(np.int64) - first
    turns = np.zeros(rows * (columns + 1), dtype=np.int64)
    step = max(1, _CROSSINGS_AT_ONCE // max(rows, 1))
    crossing = np.flatnonzero(count > 0)
    for chunk in (crossing[i : i + step] for i in range(0, len(crossing), step)):
        edge = np.repeat(chunk, count[chunk])
        before = np.repeat(np.cumsum(count[chunk]) - count[chunk], count[chunk])
        row = first[edge] + np.arange(len(edge)) - before
        (x0, y0), (x1, y1) = upper[edge].T, lower[edge].T
        x = (x0 * (y1 - row) + x1 * (row - y0)) / (y1 - y0)
        column = np.clip(np.ceil(np.round(x, _DIGITS)), 0, columns).astype(np.int64)
        turns += np.bincount(row * (columns + 1) + column, minlength=len(turns))
    inside = np.cumsum(turns.reshape(rows, columns + 1), axis=1)[:, :columns] % 2 == 1
    return (slice(low[1], low[1] + rows), slice(low[0], low[0] + columns)), np.asarray(inside)
