"""Which volumes a page shows, and a few of their voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.drawing.planes import Position
from medssl.ingest.report.rows import Rows
from medssl.store import Volume
from medssl.store.intensity import FOREGROUND_FRACTION

Array = npt.NDArray[Any]

VOXELS = 60_000
"""About as many of a volume are looked at."""
LABEL_VOXELS = 1_000_000
"""Small structures must not fall between the voxels looked at."""


def choose(rows: Rows, most: int) -> list[int]:
    """Volumes to look at, in the order in which they are worth it.

    Modalities take turns. Within one, no subject comes twice before all came once, and no second
    volume of a series before all series came. Ids are pseudonyms, so their order is as good as
    chance, and the same for the same store; the first n of more are those of n.

    Args:
        rows: the store's, or a part of them.
        most: how many at most.

    Returns:
        places in `rows`.
    """
    keys = ("volume_id", "subject_id", "series_id", "modality", "dims")
    ids, subjects, series, modalities, dims = (rows[name] for name in keys)
    order = sorted(range(len(rows)), key=lambda i: ids[i])
    in_series = _turns(order, lambda i: series[i])
    order.sort(key=lambda i: in_series[i])
    in_subject = _turns(order, lambda i: (modalities[i], subjects[i]))
    order.sort(key=lambda i: (in_subject[i], in_series[i], subjects[i], ids[i]))
    turn = _turns(order, lambda i: (modalities[i], dims[i]))
    order.sort(key=lambda i: (turn[i], modalities[i], dims[i]))
    return order[:most]


def _turns(order: Iterable[int], group: Callable[[int], Any]) -> dict[int, int]:
    """For each place in turn: how many of its group came before it."""
    seen: Counter[Any] = Counter()
    turns = {}
    for place in order:
        turns[place] = seen[group(place)]
        seen[group(place)] += 1
    return turns


@dataclass(frozen=True)
class Sample:
    """A few voxels of a volume's first channel, evenly spread.

    Attributes:
        values: float64, of any number.
        ends: 0.5th and 99.5th percentile of all voxels, or of these where the manifest has none.
        centre: the voxel in the middle of the foreground; where there is a label map, the
            slices that show most of it.
        labels: voxels looked at by label value, 0 included; empty without a label map.
    """

    values: Array
    ends: tuple[float, float]
    centre: Position
    labels: dict[int, int] = field(default_factory=dict)


def sample(volume: Volume) -> Sample:
    """Look at some voxels of a volume; a memory map is read in slabs."""
    array = volume.array()
    parts = list(_slabs(array, VOXELS))
    values = np.concatenate([part.ravel() for _, part, _ in parts]).astype(np.float64)
    low, high = _ends(volume, values)
    threshold = low + FOREGROUND_FRACTION * (high - low)
    centre = _middle(((i, part > threshold, step) for i, part, step in parts), volume.shape)
    label = volume.label()
    if label is None:
        return Sample(values, (low, high), _position(centre))
    slabs = list(_slabs(label, LABEL_VOXELS))
    found = np.bincount(np.concatenate([part.ravel() for _, part, _ in slabs]))
    counts = {int(value): int(found[value]) for value in np.flatnonzero(found)}
    most = _busiest(((i, part > 0, step) for i, part, step in slabs), volume.shape)
    return Sample(values, (low, high), _position(most or centre), counts)


def _slabs(array: Array, budget: int) -> Iterator[tuple[int, Array, int]]:
    """Of the first channel: every n-th slab of the first axis, every n-th voxel of it."""
    shape = array.shape[1:]
    step = max(1, int(np.ceil((np.prod(shape, dtype=float) / budget) ** (1 / len(shape)))))
    for i in range(min(step // 2, shape[0] - 1), shape[0], step):
        slab = np.asarray(array[0, i])
        starts = [min(step // 2, n - 1) for n in slab.shape]
        yield i, slab[tuple(slice(start, None, step) for start in starts)], step


def _ends(volume: Volume, values: Array) -> tuple[float, float]:
    row = volume.row
    if "p005" in row and "p995" in row:
        return float(row["p005"]), float(row["p995"])
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high)


def _middle(slabs: Iterator[tuple[int, Array, int]], shape: tuple[int, ...]) -> list[int]:
    """The mean place of what is True; the middle where nothing is."""
    weight, total = 0, np.zeros(len(shape))
    for i, mask, step in slabs:
        found = np.argwhere(mask)
        starts = np.array([min(step // 2, n - 1) for n in shape[1:]], dtype=np.float64)
        weight += len(found)
        total[0] += i * len(found)
        total[1:] += found.sum(axis=0) * step + starts * len(found)
    return [round(float(v)) for v in total / weight] if weight else [n // 2 for n in shape]


def _busiest(slabs: Iterator[tuple[int, Array, int]], shape: tuple[int, ...]) -> list[int] | None:
    """Along each axis the place where most is True; None where nothing is."""
    counts = [np.zeros(n, dtype=np.int64) for n in shape]
    for i, mask, step in slabs:
        counts[0][i] += int(mask.sum())
        for axis in range(mask.ndim):
            others = tuple(a for a in range(mask.ndim) if a != axis)
            size = shape[axis + 1]
            places = slice(min(step // 2, size - 1), None, step)
            counts[axis + 1][places] += mask.sum(axis=others)
    return [int(np.argmax(c)) for c in counts] if counts[0].any() else None


def _position(place: list[int]) -> Position:
    x, y, z = [*place, 0, 0][:3]
    return x, y, z
