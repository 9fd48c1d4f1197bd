"""Grids: to RAS+ and back without touching a voxel's value, and resampling between spacings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_POSITIVE, _NEGATIVE = "RAS", "LPI"
_BLOCK = 32  # voxels
_AXIS = {code: axis for codes in (_POSITIVE, _NEGATIVE) for axis, code in enumerate(codes)}


def axis_codes(affine: Array) -> str:
    """Three letters of where the array's axes point, such as ``LPS`` (nibabel's convention)."""
    return "".join(_POSITIVE[a] if s > 0 else _NEGATIVE[a] for a, s in _axes(affine))


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


def source_affine(affine: Array, shape: Sequence[int], source_orientation: str) -> Array:
    """The affine that :func:`from_canonical` gives, of an array (channel, *shape)."""
    return np.asarray(affine, dtype=np.float64) @ _moves(affine, shape, source_orientation)[2]


def _reorient(array: Array, affine: Array, codes: str) -> tuple[Array, Array]:
    order, flips, matrix = _moves(affine, array.shape[1:], codes)
    moved = array.transpose(0, *(1 + old for old in order))
    moved = moved[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in flips))]
    return _in_order(moved), np.asarray(affine, dtype=np.float64) @ matrix


def _moves(affine: Array, shape: Sequence[int], codes: str) -> tuple[list[int], list[bool], Array]:
    """Which axis each new axis was, whether it runs the other way, and new to old voxels, 4x4."""
    source = _axes(affine)
    anatomical = [axis for axis, _ in source]
    wanted = [(_AXIS[code.upper()], 1 if code.upper() in _POSITIVE else -1) for code in codes]
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    order, flips = [], []
    for new, (axis, sign) in enumerate(wanted):
        old = anatomical.index(axis)
        order.append(old)
        flips.append(sign != source[old][1])
        # voxel index along the old axis, from that along the new one
        matrix[old, new] = -1.0 if flips[-1] else 1.0
        matrix[old, 3] = shape[old] - 1 if flips[-1] else 0.0
    return order, flips, matrix


def _in_order(array: Array) -> Array:
    """A C-ordered copy of (channel, x, y, z), block by block: slices come with z outermost, and a
    copy that goes along z would touch a new page for every voxel."""
    if array.flags.c_contiguous:
        return array
    out = np.empty(array.shape, array.dtype)
    for x in range(0, array.shape[1], _BLOCK):
        for z in range(0, array.shape[3], _BLOCK):
            out[:, x : x + _BLOCK, :, z : z + _BLOCK] = array[:, x : x + _BLOCK, :, z : z + _BLOCK]
    return out


def _axes(affine: Array) -> list[tuple[int, int]]:
    """For each array axis the anatomical axis (0 R-L, 1 A-P, 2 S-I) it is closest to, and +1
    where it runs towards R, A or S.

    The rotation closest to the affine decides (its polar factor), the axis that is clearest first,
    as in nibabel.
    """
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    sizes = np.sqrt((matrix**2).sum(axis=0))
    left, _, right = np.linalg.svd(matrix / np.where(sizes == 0, 1.0, sizes))
    rotation = left @ right
    result = {}
    for column in np.argsort(-(rotation**2).max(axis=0), kind="stable").tolist():
        axis = int(np.argmax(np.abs(rotation[:, column])))
        result[column] = (axis, 1 if rotation[axis, column] > 0 else -1)
        rotation[axis, :] = 0.0
    return [result[column] for column in range(3)]


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
    from scipy import ndimage

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
