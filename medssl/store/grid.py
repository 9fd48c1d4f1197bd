"""Grids: to RAS+ and back without touching a voxel's value, and resampling between spacings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel import orientations
from scipy import ndimage

Array = npt.NDArray[Any]


def axis_codes(affine: Array) -> str:
    """Three letters of where the array's axes point, such as ``LPS`` (nibabel's convention)."""
    return "".join(nib.aff2axcodes(affine))


def spacing_of(affine: Array) -> tuple[float, float, float]:
    """Voxel size in mm along the three array axes."""
    sizes = np.sqrt((np.asarray(affine, dtype=np.float64)[:3, :3] ** 2).sum(axis=0))
    return float(sizes[0]), float(sizes[1]), float(sizes[2])


def to_canonical(array: Array, affine: Array) -> tuple[Array, Array, str]:
    """Flip and permute the axes to the closest RAS+.

    Args:
        array: (channel, x, y, z).
        affine: 4x4, voxel to RAS mm.

    Returns:
        the array and affine in closest RAS+, and the source's axis codes.
    """
    codes = axis_codes(affine)
    moved, new_affine = _reorient(array, affine, "RAS")
    return moved, new_affine, codes


def from_canonical(array: Array, affine: Array, source_orientation: str) -> tuple[Array, Array]:
    """Undo :func:`to_canonical`: the array and affine with the source's axes."""
    return _reorient(array, affine, source_orientation)


def _reorient(array: Array, affine: Array, codes: str) -> tuple[Array, Array]:
    start = orientations.io_orientation(affine)
    transform = orientations.ornt_transform(start, orientations.axcodes2ornt(tuple(codes)))
    shape = array.shape[1:]
    moved = np.stack([orientations.apply_orientation(channel, transform) for channel in array])
    return moved, np.asarray(affine) @ orientations.inv_ornt_aff(transform, shape)


def resampled_size(
    size: Sequence[int], spacing_from: Sequence[float], spacing_to: Sequence[float]
) -> tuple[int, ...]:
    """The number of voxels that covers the same extent at another spacing (at least 1)."""
    return tuple(
        max(1, round(n * a / b)) for n, a, b in zip(size, spacing_from, spacing_to, strict=True)
    )


def resample(array: Array, size: Sequence[int], order: int) -> Array:
    """Resample to ``size`` voxels over the same extent (voxel edges aligned, not centres).

    Args:
        array: (channel, *spatial).
        size: the new spatial size.
        order: 0 nearest (labels), 1 linear.

    Returns:
        the array on the new grid; the input itself where the size is already right.
    """
    if tuple(array.shape[1:]) == tuple(size):
        return array
    zoom = [old / new for old, new in zip(array.shape[1:], size, strict=True)]
    offset = [0.5 * z - 0.5 for z in zoom]
    out = np.empty((array.shape[0], *size), dtype=array.dtype if order == 0 else np.float32)
    for source, target in zip(array, out, strict=True):
        values = source if order == 0 else source.astype(np.float32)
        ndimage.affine_transform(
            values,
            zoom,
            offset,
            output_shape=tuple(size),
            output=target,
            order=order,
            mode="nearest",
        )
    return out
