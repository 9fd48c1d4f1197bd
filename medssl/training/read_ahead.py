"""Asking the system for a crop's bytes before they are read from a memory map.

Page by page, the system reads ahead what follows in the file: many times what a crop needs. Asked
beforehand it reads the crop's pages alone, all at once. `benchmarks/cold.py` has both.
"""

from __future__ import annotations

import itertools
import mmap
import resource
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

_ASKED = 32  # crops that are asked for after one that waited for the disk


def _waits() -> int:
    """How often this thread has waited for a page of a file."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_majflt


class ReadAhead:
    """Asks while volumes are not in memory; where they are, asking would cost time for nothing.

    Args:
        waits: counts how often reading has waited for the disk.
    """

    def __init__(self, waits: Callable[[], int] = _waits) -> None:
        self._waits, self._seen, self._left = waits, waits(), 0

    def before(self, array: Any, window: Sequence[slice]) -> None:
        """A crop is about to be read.

        Args:
            array: (C, *shape), asked for where it is a whole file's map.
            window: of the crop, per axis of the shape.
        """
        if self._left:
            self._left -= 1
            if isinstance(array, np.ndarray) and isinstance(array.base, mmap.mmap):
                head = len(array.base) - array.nbytes
                for first, count in runs(array.shape, array.itemsize, window):
                    start = (head + first) // mmap.PAGESIZE * mmap.PAGESIZE
                    array.base.madvise(mmap.MADV_WILLNEED, start, head + first + count - start)

    def after(self) -> None:
        """The crop has been read."""
        seen, self._seen = self._seen, self._waits()
        if self._seen > seen:
            self._left = _ASKED


def runs(shape: Sequence[int], size: int, window: Sequence[slice]) -> Iterator[tuple[int, int]]:
    """(first byte, bytes) of the pieces of a C-ordered array that a window lies in: of each of its
    planes one, from the first voxel to the last.

    Args:
        shape: (C, *spatial).
        size: bytes of a voxel.
        window: per spatial axis.
    """
    steps = [size * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    (*outer, rows, columns) = [slice(0, shape[0]), *window]
    first = rows.start * steps[-2] + columns.start * size
    count = (rows.stop - rows.start - 1) * steps[-2] + (columns.stop - columns.start) * size
    for place in itertools.product(*(range(axis.start, axis.stop) for axis in outer)):
        yield first + sum(n * step for n, step in zip(place, steps, strict=False)), count
