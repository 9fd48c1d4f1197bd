"""The body in a volume, told from the air around it, on a coarse grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.ingest.pieces import FACES, Runs, closed, filled
from medssl.store.grid import spacing_of, to_canonical

Array = npt.NDArray[Any]

COARSE_MM = 3.5
"""Wanted voxel size of the grid on which the body is looked for."""

_AIR_HU = -300.0
_HEAD_MM = 220.0
_OPENING_MM = 7.0


@dataclass(frozen=True)
class Skin:
    """The largest piece of a volume that is not air, in closest RAS+.

    Attributes:
        mask: (x, y, z) bool, at least one voxel.
        affine: 4x4, coarse voxel to RAS mm.
        spacing: of the coarse grid, mm.
    """

    mask: Array
    affine: Array
    spacing: tuple[float, float, float]

    @property
    def top(self) -> float:
        """Height of the upper end of the mask above the grid's first slice, as RAS z in mm."""
        index = np.array([*self._middle_index(), self._slices()[-1] + 0.5])
        return float((self.affine[:3, :3] @ index + self.affine[:3, 3])[2])

    @property
    def middle(self) -> tuple[float, float]:
        """RAS x and y, mm, of the middle of the part under the top."""
        index = np.array([*self._middle_index(), self._slices()[-1]])
        place = self.affine[:3, :3] @ index + self.affine[:3, 3]
        return float(place[0]), float(place[1])

    @property
    def width(self) -> float:
        """Largest extent to the right and left, 25 to 85 mm under the top; mm."""
        return self._largest_extent(0)

    @property
    def depth(self) -> float:
        """Largest extent to front and back, 25 to 85 mm under the top; mm."""
        return self._largest_extent(1)

    @property
    def cut_above(self) -> bool:
        """Whether the upper end of the field of view cuts the body, more than a cap of it."""
        areas = self.mask.sum(axis=(0, 1))
        return bool(areas[-1] > 0.35 * areas.max())

    def widths(self) -> Array:
        """Extent to the right and left of every slice from the top down, mm."""
        return (
            _extents(np.asarray(self.mask.any(axis=1))[:, self._slices()[::-1]])[0]
            * self.spacing[0]
        )

    def _slices(self) -> Array:
        return np.flatnonzero(self.mask.any(axis=(0, 1)))

    def _under_top(self) -> Array:
        top = self._slices()[-1]
        near, far = (max(0, top - round(mm / self.spacing[2])) for mm in (25.0, 85.0))
        return self.mask[:, :, far : max(near, far + 1)]

    def _largest_extent(self, axis: int) -> float:
        extents = _extents(np.asarray(self._under_top().any(axis=1 - axis)))[0]
        return float(extents.max(initial=0)) * self.spacing[axis]

    def _middle_index(self) -> tuple[float, float]:
        part = self._under_top()
        both = [_extents(np.asarray(part.any(axis=1 - axis))) for axis in (0, 1)]
        found = [float(np.median(m[e > 0])) if (e > 0).any() else 0.0 for e, m in both]
        return found[0], found[1]


def _extents(lines: Array) -> tuple[Array, Array]:
    """Length from first to last set voxel, and the middle, of every column of (n, columns)."""
    any_ = lines.any(axis=0)
    first = lines.argmax(axis=0)
    last = len(lines) - 1 - lines[::-1].argmax(axis=0)
    return np.where(any_, last - first + 1, 0), (first + last) / 2


def find_skin(array: Array, affine: Array, modality: str) -> Skin | None:
    """Tell the body from the air around it; None where nothing is left.

    CT: above -300 HU. Others: Otsu's threshold (1979) on the square root of the values, or 5
    deviations of the noise above the air where that is lower. Holes are filled, and what touches
    the body by less than about 7 mm (a table, a ghost) is cut off.

    Args:
        array: (x, y, z) in any axis order.
        affine: 4x4, voxel to RAS mm.
        modality: DICOM code; only "CT" makes a difference.
    """
    steps = [max(1, round(COARSE_MM / size)) for size in spacing_of(affine)]
    values = array[tuple(slice(step // 2, None, step) for step in steps)].astype(np.float32)
    if values.size == 0:
        return None
    coarse = np.asarray(affine, dtype=np.float64).copy()
    coarse[:3, 3] += coarse[:3, :3] @ [step // 2 for step in steps]
    coarse[:3, :3] *= steps
    moved, grid, _ = to_canonical(values[None], coarse)
    level = _AIR_HU if modality == "CT" else _threshold(moved[0])
    mask = _largest(moved[0] > level, spacing_of(grid))
    return Skin(mask, grid, spacing_of(grid)) if mask.any() else None


def upper(skin: Skin) -> Skin:
    """The uppermost 220 mm, where a head would be."""
    top = int(np.flatnonzero(skin.mask.any(axis=(0, 1)))[-1])
    first = max(0, top - round(_HEAD_MM / skin.spacing[2]))
    affine = skin.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first
    return replace(skin, mask=skin.mask[:, :, first:], affine=affine)


def outer_surface(skin: Skin) -> Array:
    """(n, 3) RAS mm of where rays from the front, back, left, right and top meet the body.

    A ray that starts in the body meets no skin: there the field of view ends.
    """
    found = []
    for axis, high in ((0, False), (0, True), (1, False), (1, True), (2, True)):
        mask = np.flip(skin.mask, axis) if high else skin.mask
        depth = mask.argmax(axis=axis)
        hit = np.argwhere(mask.any(axis=axis) & (depth > 0))
        at = depth[tuple(hit.T)] - 0.5  # air begins at the voxel's face, not at its centre
        place = mask.shape[axis] - 1 - at if high else at
        found.append(np.insert(hit.astype(np.float64), axis, place, axis=1))
    index = np.unique(np.concatenate(found), axis=0)
    return np.asarray(index @ skin.affine[:3, :3].T + skin.affine[:3, 3])


def _threshold(values: Array) -> float:
    top = float(np.percentile(values, 99))
    low = min(float(np.percentile(values, 1)), 0.0)
    scaled = np.sqrt(np.clip((values - low) / max(top - low, 1e-9), 0, 1))
    counts, edges = np.histogram(scaled, bins=128, range=(0, 1))
    middle = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middle)
    above = below[-1] - below
    inner = (below > 0) & (above > 0)
    gap = np.zeros_like(middle)
    means = sums[inner] / below[inner], (sums[-1] - sums[inner]) / above[inner]
    gap[inner] = below[inner] * above[inner] * (means[0] - means[1]) ** 2
    otsu = float(middle[int(gap.argmax())])
    dark = scaled[scaled <= otsu]
    centre = float(np.median(dark)) if dark.size else 0.0
    noise = 1.48 * float(np.median(np.abs(dark - centre))) if dark.size else 0.0
    # Skin can be much darker than what Otsu calls bright; air never is, but for its noise.
    return low + min(otsu, max(centre + 5 * noise, 0.2)) ** 2 * (top - low)


def _largest(mask: Array, spacing: Sequence[float]) -> Array:
    """The largest piece of an opening by 7 mm, grown back by as much."""
    # Filled slice by slice, or the scalp over a dark skull would be opened away.
    mask = filled(closed(mask, 2))
    if mask.all():
        return mask
    runs = Runs.of(~near(~mask, spacing, _OPENING_MM), FACES)
    if runs.count == 0:
        return np.zeros_like(mask)
    largest = np.arange(runs.count) == runs.sizes().argmax()
    return near(runs.mask(mask.shape, largest), spacing, 2 * _OPENING_MM) & mask


def near(mask: Array, spacing: Sequence[float], reach: float) -> Array:
    """The voxels whose middle is within ``reach``, mm, of the middle of one of the mask.

    The same as a distance transform would say, which takes far longer for a short reach.

    Args:
        mask: (x, y, z) bool.
        spacing: of its voxels, mm.
        reach: much less than the mask is wide.
    """
    widest = [min(int(reach / size), n - 1) for size, n in zip(spacing, mask.shape, strict=True)]
    along = [mask]  # k: within k voxels along z
    for k in range(1, widest[2] + 1):
        wider = along[-1].copy()
        wider[:, :, k:] |= mask[:, :, :-k]
        wider[:, :, :-k] |= mask[:, :, k:]
        along.append(wider)
    found = np.zeros_like(mask)
    for i in range(-widest[0], widest[0] + 1):
        for j in range(-widest[1], widest[1] + 1):
            aside = (i * spacing[0]) ** 2 + (j * spacing[1]) ** 2
            fits = [
                k for k in range(len(along)) if math.sqrt(aside + (k * spacing[2]) ** 2) <= reach
            ]
            if fits:
                found[_shifted(i, j)] |= along[fits[-1]][_shifted(-i, -j)]
    return found


def _shifted(i: int, j: int) -> tuple[slice, slice]:
    """What of (x, y, z) is left when it moves by (i, j) voxels."""
    first, second = (slice(max(0, n), min(0, n) or None) for n in (i, j))
    return first, second
