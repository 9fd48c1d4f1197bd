"""NIfTI-1 and NIfTI-2, one file or a pair: one certain geometry, or a typed refusal."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.volumeutils import apply_read_scaling

from medssl.errors import MedsslError

Array = npt.NDArray[Any]

SAME_GRID_TOLERANCE = 0.02
"""How far two affines may move a corner apart, in units of the smallest voxel side."""
SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two axes of an affine."""
ZOOM_TOLERANCE = 0.01
"""How far the voxel sizes of sform and pixdim may differ, relative."""
_MILLIMETRES = ("mm", "unknown")
_MOST_AFTER = 2**16  # bytes that may follow the voxels
_LAST_TIME_UNIT = 24  # seconds 8, milliseconds 16, microseconds 24; then hertz, ppm, radians


@dataclass(frozen=True)
class NiftiVolumes:
    """The volumes of one NIfTI image, all on one grid.

    Attributes:
        count: how many there are along the fourth axis; 1 for an image of three.
        affine: 4x4 voxel to RAS mm; None for 2D.
        raw: (x, y, z, count) or (row, column, 1, count) as stored.
        slope, inter: what takes stored values to those meant.
    """

    count: int
    affine: Array | None
    raw: Array
    slope: float
    inter: float

    def volume(self, number: int) -> Array:
        """One volume, counted from 0: (1, x, y, z), or (1, row, column) in 2D.

        Raises:
            MedsslError: VOXELS_INVALID.
        """
        array: Array = apply_read_scaling(self.raw[..., number], self.slope, self.inter)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype == np.longdouble:
            array = array.astype(np.float64)
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise MedsslError("VOXELS_INVALID", "The image holds NaN or infinity")
        return array[None] if self.affine is not None else array[..., 0].T[None]

    def digest(self) -> str:
        """SHA-256 of stored values, scaling and affine: what makes this image, and no other."""
        affine = None if self.affine is None else np.round(self.affine, 3).tolist()
        text = f"{self.raw.dtype.str} {self.raw.shape} {self.slope} {self.inter} {affine}"
        return hashlib.sha256(text.encode() + self.raw.tobytes("F")).hexdigest()


def read_nifti(path: Path, data_path: Path | None = None) -> tuple[Array, Array | None]:
    """Read the one volume of a NIfTI file, as :func:`read_nifti_volumes`.

    Returns:
        (1, x, y, z) and the 4x4 affine to RAS mm; for an image of one slice along z (1, row,
        column), rows along y, and None.

    Raises:
        MedsslError: as :func:`read_nifti_volumes`, and TIME_SERIES_UNSUPPORTED where there are
            several.
    """
    volumes = read_nifti_volumes(path, data_path)
    if volumes.count > 1:
        raise MedsslError("TIME_SERIES_UNSUPPORTED", f"The image has {volumes.count} volumes")
    return volumes.volume(0), volumes.affine


def read_nifti_volumes(path: Path, data_path: Path | None = None) -> NiftiVolumes:
    """Read a NIfTI image of one or several volumes, with or without gzip, whatever its name.

    Values are scaled by scl_slope and scl_inter where those are stated. The affine is the sform or
    the qform, whichever the header gives a code to; where both have one they must agree. Unstated
    units are taken for millimetres, as the NIfTI-1 standard's own software does.

    Args:
        path: the file, or the ``.hdr`` of a pair.
        data_path: the ``.img`` of a pair.

    Raises:
        MedsslError: FILE_UNREADABLE, FILE_TRUNCATED, TIME_SERIES_UNSUPPORTED (a fifth dimension, or
            a fourth that is no time), COLOUR_UNSUPPORTED, PIXEL_FORMAT_UNSUPPORTED,
            AFFINE_INVALID, AFFINE_AMBIGUOUS, SPACING_INVALID, VOLUME_EMPTY, VOXELS_INVALID.
    """
    with LoggingOutputSuppressor(), _opened(path) as stream:
        if data_path is None:
            return _volumes(*_open(stream, None), stream)
        with _opened(data_path) as data:
            return _volumes(*_open(stream, data), data)


def read_grid(path: Path) -> tuple[tuple[int, int, int], Array]:
    """Where the voxels of a NIfTI file lie, from its header alone.

    Returns:
        (x, y, z) and the 4x4 affine to RAS mm.

    Raises:
        MedsslError: as :func:`read_nifti_volumes`.
    """
    with LoggingOutputSuppressor(), _opened(path) as stream:
        image, voxel_size = _open(stream, None)
    shape = _shape(image)[:3]
    return shape, affine_of(image.header, voxel_size, shape)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as plain:
        yield cast(IO[bytes], plain)


def _open(stream: Any, data: Any) -> tuple[Any, Array]:
    """The image, and its voxel size as written: nibabel turns a size of 0 into 1."""
    try:
        start = stream.read(4)
        two = b"\x02\x1c" in (start[2:], start[1::-1])
        stream.seek(0)
        if data is None:
            kind = nib.Nifti2Image if two else nib.Nifti1Image
            files = {"image": nib.FileHolder(fileobj=stream)}
        else:
            kind = nib.Nifti2Pair if two else nib.Nifti1Pair
            files = {
                "header": nib.FileHolder(fileobj=stream),
                "image": nib.FileHolder(fileobj=data),
            }
        raw = kind.header_class.from_fileobj(stream, check=False)
        stream.seek(0)
        return kind.from_file_map(files), np.asarray(raw["pixdim"][1:4], dtype=np.float64)
    # nibabel raises many types on a damaged header; any of them is this file's rejection.
    except Exception as error:
        raise MedsslError("FILE_UNREADABLE", f"Header: {type(error).__name__}") from None


def _volumes(image: Any, voxel_size: Array, stream: IO[bytes]) -> NiftiVolumes:
    shape = _shape(image)
    try:
        raw = np.asarray(image.dataobj.get_unscaled()).reshape(shape, order="F")
        stream.seek(image.dataobj.offset + raw.nbytes)
        rest = len(stream.read(_MOST_AFTER + 1))  # at its end, gzip compares its checksum
    except (OSError, EOFError, ValueError, zlib.error):
        raise MedsslError("FILE_TRUNCATED", "The voxels end early or are damaged") from None
    if rest > _MOST_AFTER:
        raise MedsslError("FILE_UNREADABLE", "There are more voxels than the header states")
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    if np.issubdtype(raw.dtype, np.floating):
        ends = np.array([raw.min(), raw.max()]) * slope + inter
        if not np.isfinite(ends).all():
            raise MedsslError("VOXELS_INVALID", "The image holds NaN or infinity")
    affine = None if shape[2] == 1 else affine_of(image.header, voxel_size, shape[:3])
    return NiftiVolumes(shape[3], affine, raw, slope, inter)


def _shape(image: Any) -> tuple[int, int, int, int]:
    """(x, y, z, volumes)."""
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 2 or min(shape) < 1:
        raise MedsslError("VOLUME_EMPTY", "The image has no voxels")
    shape = shape + (1,) * (4 - len(shape))
    if max(shape[4:], default=1) > 1:
        raise MedsslError("TIME_SERIES_UNSUPPORTED", f"The image has {len(shape)} dimensions")
    if shape[3] > 1 and int(image.header["xyzt_units"]) & 0x38 > _LAST_TIME_UNIT:
        raise MedsslError("TIME_SERIES_UNSUPPORTED", "The fourth dimension is a spectrum")
    kind = image.get_data_dtype()
    if kind.fields is not None:
        raise MedsslError("COLOUR_UNSUPPORTED", "The voxels are colours")
    if not (np.issubdtype(kind, np.integer) or np.issubdtype(kind, np.floating)):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The voxels are not real numbers")
    return shape[0], shape[1], shape[2], shape[3]


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
        check_affine(matrix)
    if len(stated) == 2 and not same_grid(stated[0], stated[1], shape):
        raise MedsslError("AFFINE_AMBIGUOUS", "The qform and the sform disagree")
    sides = np.linalg.norm(stated[0][:3, :3], axis=0)
    if (np.abs(sides / voxel_size - 1) > ZOOM_TOLERANCE).any():
        raise MedsslError("AFFINE_AMBIGUOUS", "The sform and the voxel sizes disagree")
    return np.asarray(stated[0], dtype=np.float64)


def check_affine(affine: Array) -> None:
    """Whether an affine has three axes at right angles to each other.

    Raises:
        MedsslError: AFFINE_INVALID.
    """
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
