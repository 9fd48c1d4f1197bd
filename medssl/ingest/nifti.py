"""NIfTI-1 and NIfTI-2 files: one image with one certain geometry, or a typed refusal."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.imageglobals import LoggingOutputSuppressor

from medssl.errors import MedsslError

Array = npt.NDArray[Any]

SAME_GRID_TOLERANCE = 0.02
"""How far two affines may move a corner apart, in units of the smallest voxel side."""
SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two axes of an affine."""
ZOOM_TOLERANCE = 0.01
"""How far the voxel sizes of sform and pixdim may differ, relative."""
_MILLIMETRES = ("mm", "unknown")


def read_nifti(path: Path) -> tuple[Array, Array | None]:
    """Read one NIfTI file, with or without gzip, whatever its name.

    Values are scaled by scl_slope and scl_inter where those are stated. The affine is the sform or
    the qform, whichever the header gives a code to; where both have one they must agree. Unstated
    units are taken for millimetres, as the NIfTI-1 standard's own software does.

    Returns:
        (1, x, y, z) and the 4x4 affine to RAS mm; for an image of one slice along z (1, row,
        column), rows along y, and None.

    Raises:
        MedsslError: FILE_UNREADABLE, FILE_TRUNCATED, TIME_SERIES_UNSUPPORTED, COLOUR_UNSUPPORTED,
            PIXEL_FORMAT_UNSUPPORTED, AFFINE_INVALID, AFFINE_AMBIGUOUS, SPACING_INVALID,
            VOLUME_EMPTY, VOXELS_INVALID.
    """
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as stream, LoggingOutputSuppressor():
        image, voxel_size = _open(stream)
        shape = _spatial_shape(image)
        array = _voxels(image).reshape(shape)
    if len(shape) == 2 or shape[2] == 1:
        return array.reshape(shape[:2]).T[None], None
    return array[None], affine_of(image.header, voxel_size, shape)


def _open(stream: Any) -> tuple[Any, Array]:
    """The image, and its voxel size as written: nibabel turns a size of 0 into 1."""
    try:
        start = stream.read(4)
        two = b"\x02\x1c" in (start[2:], start[1::-1])
        kind = nib.Nifti2Image if two else nib.Nifti1Image
        stream.seek(0)
        raw = kind.header_class.from_fileobj(stream, check=False)
        stream.seek(0)
        return kind.from_stream(stream), np.asarray(raw["pixdim"][1:4], dtype=np.float64)
    # nibabel raises many types on a damaged header; any of them is this file's rejection.
    except Exception as error:
        raise MedsslError("FILE_UNREADABLE", f"Header: {type(error).__name__}") from None


def _spatial_shape(image: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise MedsslError("TIME_SERIES_UNSUPPORTED", f"The image has {len(shape)} dimensions")
    if len(shape) < 2 or min(shape) < 1:
        raise MedsslError("VOLUME_EMPTY", "The image has no voxels")
    kind = image.get_data_dtype()
    if kind.fields is not None:
        raise MedsslError("COLOUR_UNSUPPORTED", "The voxels are colours")
    if not (np.issubdtype(kind, np.integer) or np.issubdtype(kind, np.floating)):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The voxels are not real numbers")
    return shape


def _voxels(image: Any) -> Array:
    try:
        array = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error):
        raise MedsslError("FILE_TRUNCATED", "The voxels end early or are damaged") from None
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise MedsslError("VOXELS_INVALID", "The image holds NaN or infinity")
    return array


def affine_of(header: Any, voxel_size: Array, shape: Sequence[int]) -> Array:
    """The one affine a NIfTI header states.

    Args:
        header: a nibabel NIfTI header.
        voxel_size: its pixdim 1 to 3, as written.
        shape: (x, y, z).

    Returns:
        4x4 float64, voxel to RAS mm.

    Raises:
        MedsslError: AFFINE_INVALID, AFFINE_AMBIGUOUS, SPACING_INVALID.
    """
    if not np.isfinite(voxel_size).all() or (voxel_size <= 0).any():
        raise MedsslError("SPACING_INVALID", "A voxel size is zero, negative or not a number")
    try:
        units = header.get_xyzt_units()[0]
        stated = [
            matrix
            for matrix in (header.get_sform(coded=True)[0], header.get_qform(coded=True)[0])
            if matrix is not None
        ]
    # A quaternion longer than 1 or an unknown unit code.
    except Exception:
        raise MedsslError("AFFINE_INVALID", "The header's geometry cannot be read") from None
    if units not in _MILLIMETRES:
        raise MedsslError("AFFINE_INVALID", f"The header states its lengths in {units}")
    if not stated:
        raise MedsslError("AFFINE_INVALID", "The header states neither a qform nor an sform")
    for matrix in stated:
        _check_affine(matrix)
    if len(stated) == 2 and not same_grid(stated[0], stated[1], shape):
        raise MedsslError("AFFINE_AMBIGUOUS", "The qform and the sform disagree")
    sides = np.linalg.norm(stated[0][:3, :3], axis=0)
    if (np.abs(sides / voxel_size - 1) > ZOOM_TOLERANCE).any():
        raise MedsslError("AFFINE_AMBIGUOUS", "The sform and the voxel sizes disagree")
    return np.asarray(stated[0], dtype=np.float64)


def _check_affine(affine: Array) -> None:
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    sides = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or (sides == 0).any():
        raise MedsslError("AFFINE_INVALID", "The affine is singular or not a number")
    cosines = (axes / sides).T @ (axes / sides) - np.eye(3)
    if np.abs(cosines).max() > SHEAR_TOLERANCE:
        raise MedsslError("AFFINE_INVALID", "The affine is sheared")


def same_grid(one: Array, two: Array, shape: Sequence[int]) -> bool:
    """Whether two affines put every corner of a grid at the same place, within tolerance."""
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in shape[:3]])), dtype=np.float64)
    change = np.asarray(one, dtype=np.float64) - np.asarray(two, dtype=np.float64)
    moved = corners @ change[:3, :3].T + change[:3, 3]
    side = min(np.linalg.norm(np.asarray(m)[:3, :3], axis=0).min() for m in (one, two))
    return bool(np.linalg.norm(moved, axis=1).max() <= SAME_GRID_TOLERANCE * side)
