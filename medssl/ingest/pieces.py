"""A few filters and the connected pieces of a mask, in NumPy: every volume is looked at with them.

``scipy.ndimage`` says the same, voxel for voxel, but takes longer to import than an ingest of one
series should take; it is imported for what is rare, such as heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Link = tuple[int, int, int]

AROUND: tuple[Link, ...] = ((0, 1, 1),)
"""Links of (1, row, column): 8 neighbours."""
FACES: tuple[Link, ...] = ((1, 0, 0), (0, 1, 0))
"""Links of (x, y, z): 6 neighbours."""
IN_SLICE: tuple[Link, ...] = ((0, 1, 0),)
"""Links of (slice, row, column): 4 neighbours in the same slice."""


@dataclass(frozen=True)
class Runs:
    """Unbroken lines of a mask's voxels along its last axis, in the order of memory.

    Attributes:
        lines: (n, 2) index along the first and the second axis.
        starts: (n,) first voxel along the last axis.
        stops: (n,) the one after the last.
        piece: (n,) number of the connected piece, from 0, in the order of their first voxels.
        count: of pieces.
    """

    lines: Array
    starts: Array
    stops: Array
    piece: Array
    count: int

    @classmethod
    def of(cls, mask: Array, links: Sequence[Link]) -> Runs:
        """Find the pieces of a mask.

        Args:
            mask: (a, b, c) bool.
            links: what connects runs: steps along a and b, none negative, to a neighbouring line,
                and by how many voxels runs may miss each other there.
        """
        width = mask.shape[2] + 2  # with air at both ends no run reaches into the next line
        padded = np.zeros((*mask.shape[:2], width), dtype=bool)
        padded[:, :, 1:-1] = mask
        flat = padded.reshape(-1)
        ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        starts, stops = ends[::2], ends[1::2]
        line, first = np.divmod(starts, width)
        lines = np.stack(np.divmod(line, mask.shape[1]), axis=1)
        pairs = [_pairs(lines, starts, stops, mask.shape, link) for link in links]
        root = _roots(len(starts), *np.concatenate(pairs, axis=1))
        number = np.cumsum(root == np.arange(len(root))) - 1
        count = int(number[-1]) + 1 if len(number) else 0
        return cls(lines, first - 1, stops - starts + first - 1, number[root], count)

    def sizes(self) -> Array:
        """(count,) voxels of each piece."""
        return np.bincount(self.piece, self.stops - self.starts, self.count).astype(np.int64)

    def boxes(self) -> tuple[Array, Array, Array, Array]:
        """(count,) of each piece: first and last along the second axis, and along the last one."""
        return (
            self._of_pieces(self.lines[:, 1], np.minimum),
            self._of_pieces(self.lines[:, 1], np.maximum),
            self._of_pieces(self.starts, np.minimum),
            self._of_pieces(self.stops - 1, np.maximum),
        )

    def highest(self, values: Array) -> Array:
        """(count,) the highest value in each piece, of (a, b, c)."""
        flat = np.append(values, values.flat[:1])  # every stop is an index
        first = (self.lines @ [values.shape[1], 1]) * values.shape[2]
        ends = np.column_stack([first + self.starts, first + self.stops]).reshape(-1)
        return self._of_pieces(np.maximum.reduceat(flat, ends)[::2], np.maximum)

    def _of_pieces(self, values: Array, extreme: np.ufunc) -> Array:
        order, firsts = self._grouped
        return np.asarray(extreme.reduceat(values[order], firsts))

    @cached_property
    def _grouped(self) -> tuple[Array, Array]:
        """The order of runs by their pieces, and where each piece begins in it."""
        order = self.piece.argsort(kind="stable")
        return order, self.piece[order].searchsorted(np.arange(self.count))

    def mask(self, shape: Sequence[int], kept: Array) -> Array:
        """(a, b, c) bool: the voxels of the pieces for which ``kept``, (count,) bool, is true."""
        change = np.zeros((shape[0], shape[1], shape[2] + 1), dtype=np.int8)
        runs = kept[self.piece]
        first, second = self.lines[runs].T
        change[first, second, self.starts[runs]] = 1
        change[first, second, self.stops[runs]] -= 1
        return np.cumsum(change, axis=2, dtype=np.int8)[:, :, :-1].astype(bool)


def _pairs(
    lines: Array, starts: Array, stops: Array, shape: Sequence[int], link: Link
) -> tuple[Array, Array]:
    """Which runs meet which in the line that a link leads to."""
    first, second, slack = link
    inside = np.flatnonzero((lines[:, 0] + first < shape[0]) & (lines[:, 1] + second < shape[1]))
    step = (first * shape[1] + second) * (shape[2] + 2)
    low = np.searchsorted(stops, starts[inside] + step - slack, side="right")
    high = np.searchsorted(starts, stops[inside] + step + slack, side="left")
    counts = np.maximum(high - low, 0)
    skipped = np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(inside, counts), np.repeat(low, counts) + np.arange(len(skipped)) - skipped


def _roots(count: int, one: Array, two: Array) -> Array:
    """Of each of ``count`` runs the first one that it is connected with, by pairs of neighbours."""
    root = np.arange(count)
    while len(one):
        np.minimum.at(root, np.maximum(one, two), np.minimum(one, two))
        while not np.array_equal(root, further := root[root]):
            root = further
        one, two = root[one], root[two]
        apart = one != two
        one, two = one[apart], two[apart]
    return root


def white_tophat(image: Array, size: int) -> Array:
    """(row, column) less its grey opening by a square of ``size`` pixels, which is odd."""
    low = _extremes(image, size, np.minimum)
    return image - _extremes(low, size, np.maximum)


def _extremes(image: Array, size: int, extreme: np.ufunc) -> Array:
    """The extreme value in the square around each pixel; the image is mirrored at its edges."""
    wide = np.pad(image, size // 2, mode="symmetric")
    for _ in range(2):
        found, reach = wide, 1  # the extreme of ``reach`` rows from each one on
        while reach < size:
            step = min(reach, size - reach)
            found, reach = extreme(found[:-step], found[step:]), reach + step
        wide = found.T
    return wide


def closed(mask: Array, times: int) -> Array:
    """(x, y, z) grown by its 6 neighbours ``times`` times, and then shrunk as often."""
    wide = np.pad(mask, times)
    for _ in range(times):
        wide = _grown(wide)
    wide = ~wide
    for _ in range(times):
        wide = _grown(wide)
    inner = slice(times, -times)
    return ~wide[inner, inner, inner]


def _grown(mask: Array) -> Array:
    wide = mask.copy()
    for axis in range(mask.ndim):
        target, source = np.moveaxis(wide, axis, 0), np.moveaxis(mask, axis, 0)
        target[1:] |= source[:-1]
        target[:-1] |= source[1:]
    return wide


def filled(mask: Array) -> Array:
    """(x, y, z) with the holes filled that each slice along z has for itself."""
    air = np.ascontiguousarray(~mask.transpose(2, 0, 1))
    runs = Runs.of(air, IN_SLICE)
    row = runs.lines[:, 1]
    outside = (row == 0) | (row == air.shape[1] - 1)
    outside |= (runs.starts == 0) | (runs.stops == air.shape[2])
    open_ = np.zeros(runs.count, dtype=bool)
    open_[runs.piece[outside]] = True
    return ~runs.mask(air.shape, open_).transpose(1, 2, 0)
