"""What a volume looks like in a few numbers: to find one image under two ids among many thousands.

Three descriptions, each blind to other changes:

- the *thumbnail*, 16 x 16 x 16 means (2D: 64 x 64) over the box that holds the foreground, without
  what is coarse: outlives rescaling, 8 bits, other windows, resampling, padding, a flip; no crop;
- the *marks*, hashes of the order of the voxels around some bright points: outlive any crop, a
  left-right flip and any rescaling that keeps the order; not resampling, not 8 bits;
- the *step* between neighbouring intensities of scaled images, an accident of one scan that its
  crops share even where they do not overlap; none for whole numbers.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medssl.progress import track
from medssl.store.intensity import FOREGROUND_FRACTION
from medssl.store.reader import Store

Array = npt.NDArray[Any]

CELLS = {2: 64, 3: 16}  # along each axis: 4096 numbers either way
MARKS = 64
_SAMPLES = {2: 1024, 3: 128}  # at most so many voxels along an axis are looked at
_BLUR = {2: 10.0, 3: 2.5}  # cells; what is coarser than this, all people share
_WINDOW = {2: 7, 3: 3}  # voxels along an axis around a bright point
_LEVELS = 12  # of so many different values at least; flat surroundings are everywhere alike
_EDGE = 0.01  # share of the foreground that may lie outside the thumbnail's box, at each end
_STEP_LEVELS = 20
_MULTIPLIERS = np.random.default_rng(20).integers(0, 2**63, 64, dtype=np.uint64) * 2 + 1


@dataclass(frozen=True)
class Prints:
    """The descriptions of some volumes, row by row.

    Attributes:
        sha256: (n,) text, the hash of each array file: a volume is described once.
        thumbnail: (n, 4096) float16, mean 0 and length 1; zeros where there is no contrast.
        marks: (n, 64) uint64, the smallest hashes; 0 fills up where there are fewer.
        step: (n,) float64 in the image's unit, 0 where there is none.
    """

    sha256: Array
    thumbnail: Array
    marks: Array
    step: Array

    @classmethod
    def join(cls, parts: Sequence[Prints]) -> Prints:
        """All rows below each other."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def rows(self, sha256: Sequence[str]) -> Prints:
        """The rows of these hashes, in this order; a KeyError where one is missing."""
        place: Mapping[str, int] = {str(name): i for i, name in enumerate(self.sha256)}
        chosen = [place[name] for name in sha256]
        return Prints(*(getattr(self, f.name)[chosen] for f in fields(self)))


def describe_array(sha256: str, array: Array) -> Prints:
    """One row of :class:`Prints`.

    Args:
        sha256: the name of the row.
        array: (channel, x, y, z) or (channel, row, column), of any real dtype; the first channel
            counts. Of a memory map little more is read than what is looked at.
    """
    image = array[0]
    most = _SAMPLES[image.ndim]
    sample = np.asarray(image[tuple(slice(None, None, -(-n // most)) for n in image.shape)])
    middle = tuple(slice((n - min(n, most)) // 2, (n + min(n, most)) // 2) for n in image.shape)
    return Prints(
        np.array([sha256]),
        thumbnail(sample)[None].astype(np.float16),
        marks(np.asarray(image[middle]))[None],
        np.array([step(sample)]),
    )


def prints_of(store: Store, cache: Path | None = None) -> Prints:
    """The descriptions of all volumes of a store, in the manifest's order.

    Args:
        store: the store.
        cache: a file to take known rows from and to keep new ones in.
    """
    wanted = store.manifest["sha256"].tolist()
    parts = _read(cache) if cache is not None and cache.exists() else []
    known = {str(name) for part in parts for name in part.sha256}
    arrays = dict(zip(wanted, store.manifest["volume_id"], strict=True))
    new = [name for name in arrays if name not in known]
    for name in track(new, "thumbnails"):
        parts.append(describe_array(name, store[arrays[name]].array()))
    found = Prints.join(parts)
    if cache is not None and new:
        cache.parent.mkdir(exist_ok=True)
        partial = cache.with_name(f".{cache.name}.partial-{os.getpid()}.npz")
        np.savez(partial, **{f.name: getattr(found, f.name) for f in fields(found)})
        partial.replace(cache)
    return found.rows(wanted)


def _read(cache: Path) -> list[Prints]:
    """What is kept; nothing where it is damaged, for it can all be made again."""
    try:
        with np.load(cache, allow_pickle=False) as stored:
            return [Prints(**{f.name: stored[f.name] for f in fields(Prints)})]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return []


def thumbnail(image: Array) -> npt.NDArray[np.float32]:
    """A small high-pass filtered picture of the foreground, (4096,) float32, mean 0 and length 1.

    Args:
        image: (x, y, z) or (row, column).
    """
    low, high = np.percentile(image, [0.5, 99.5])
    clipped = np.clip(image.astype(np.float32), low, high)
    bright = clipped > low + FOREGROUND_FRACTION * (high - low)
    count = CELLS[image.ndim]
    edges = [np.linspace(*_extent(bright, axis), count + 1) for axis in range(image.ndim)]
    small = _cell_means(clipped, edges)
    small -= ndimage.gaussian_filter(small, _BLUR[image.ndim])
    small -= small.mean()
    length = float(np.linalg.norm(small))
    # Rounding alone is left of an image without contrast.
    floor = 1e-5 * max(abs(float(low)), abs(float(high))) * math.sqrt(small.size)
    flat: npt.NDArray[np.float32] = small.ravel() / length if length > floor else 0 * small.ravel()
    return flat.astype(np.float32)


def flipped(thumbnails: Array, dims: int) -> Array:
    """The thumbnails (n, 4096) of the images with left and right exchanged."""
    count = CELLS[dims]
    grid = thumbnails.reshape(-1, *(count,) * dims)
    mirrored = grid[:, ::-1] if dims == 3 else grid[..., ::-1]
    return mirrored.reshape(len(thumbnails), -1)


def _extent(bright: Array, axis: int) -> tuple[float, float]:
    """Where the foreground begins and ends along an axis, voxels, but for 1 % at either end."""
    others = tuple(i for i in range(bright.ndim) if i != axis)
    reached = np.concatenate([[0.0], np.cumsum(bright.sum(axis=others))])
    if reached[-1] == 0:
        return 0.0, float(bright.shape[axis])
    places = np.arange(len(reached))
    ends = np.interp([_EDGE, 1 - _EDGE], reached / reached[-1], places)
    return (float(ends[0]), float(ends[1])) if ends[1] - ends[0] >= 1 else (0.0, float(places[-1]))


def _cell_means(image: Array, edges: Sequence[Array]) -> npt.NDArray[np.float32]:
    """Means over the cells between the edges (voxels, fractions allowed), axis by axis."""
    for axis, edge in enumerate(edges):
        sums = np.cumsum(image, axis=axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        below = np.minimum(np.floor(edge).astype(int), image.shape[axis] - 1)
        along = [-1 if i == axis else 1 for i in range(image.ndim)]
        part = (edge - below).reshape(along)
        at_edges = sums.take(below, axis) * (1 - part) + sums.take(below + 1, axis) * part
        image = np.diff(at_edges, axis=axis) / np.diff(edge).reshape(along)
    return image.astype(np.float32)


def marks(image: Array) -> npt.NDArray[np.uint64]:
    """The smallest hashes of what surrounds the image's bright points, (64,) uint64, ascending.

    A point is brighter than all its neighbours. The hash is of the ranks of the voxels around it,
    so any change of intensities that keeps their order keeps it, and the smaller of the hashes of
    the surroundings and of their mirror image counts.

    Args:
        image: (x, y, z) or (row, column).
    """
    reach = _WINDOW[image.ndim] // 2
    peaks = image == ndimage.maximum_filter(image, 3)
    inner = np.zeros_like(peaks)
    within = (slice(reach, -reach),) * image.ndim
    inner[within] = peaks[within]
    points = np.argwhere(inner)
    if not len(points):
        return np.zeros(MARKS, np.uint64)
    steps = np.argwhere(np.ones((2 * reach + 1,) * image.ndim)) - reach
    around = image[tuple(np.moveaxis(points[:, None] + steps, -1, 0))]
    around = around[(around == around.max(1, keepdims=True)).sum(1) == 1]
    hashes = np.unique(np.minimum(_order_hash(around), _order_hash(_mirror(around, image.ndim))))
    out = np.zeros(MARKS, np.uint64)
    hashes = hashes[hashes > 0][:MARKS]
    out[: len(hashes)] = hashes
    return out


def _mirror(around: Array, dims: int) -> Array:
    grid = around.reshape(-1, *(_WINDOW[dims],) * dims)
    return (grid[:, ::-1] if dims == 3 else grid[..., ::-1]).reshape(around.shape)


def _order_hash(around: Array) -> npt.NDArray[np.uint64]:
    """(n, voxels) -> (n,) hashes of the dense ranks; 0 where too few values differ."""
    order = np.argsort(around, axis=1, kind="stable")
    ascending = np.take_along_axis(around, order, 1)
    dense = np.zeros(around.shape, np.uint64)
    dense[:, 1:] = np.cumsum(ascending[:, 1:] != ascending[:, :-1], axis=1)
    ranks = np.empty_like(dense)
    np.put_along_axis(ranks, order, dense, 1)
    mixed = (ranks * _MULTIPLIERS[: around.shape[1]]).sum(1, dtype=np.uint64)
    # The finaliser of splitmix64 (Steele, Lea and Flood 2014, OOPSLA), which spreads all bits.
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return np.where(dense[:, -1] + 1 >= _LEVELS, mixed, 0).astype(np.uint64)


def step(image: Array) -> float:
    """The step of which all intensities are whole multiples, but for a common offset.

    Returns:
        the step, or 0: for whole numbers, where there is no step, few levels, or a step so round
        (at most three digits, or one over a whole number) that scans share it by convention.
    """
    if np.issubdtype(image.dtype, np.integer):
        return 0.0
    levels = np.unique(image).astype(np.float64)
    levels -= levels[0]
    if len(levels) < _STEP_LEVELS:
        return 0.0
    found = float(np.diff(levels).min())
    for _ in range(3):  # each turn the multiples are surer, and the step is the best fit to them
        multiples = np.rint(levels / found)
        if multiples[-1] > 2**20:
            return 0.0
        found = float(levels @ multiples / (multiples @ multiples))
    if np.abs(levels / found - multiples).max() > 0.05:
        return 0.0
    return 0.0 if _is_round(found) or _is_round(1 / found) else found


def _is_round(value: float) -> bool:
    return abs(float(f"{value:.2e}") / value - 1) < 1e-6 or abs(round(value) / value - 1) < 1e-6
