"""What NRRD and MetaImage have in common: a text header, and voxels one after the other.

The header is read by :mod:`medssl.ingest.nrrd` or :mod:`medssl.ingest.metaimage`, which say only
what it states: the usual readers fill in a spacing of 1 and an identity where it is silent.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError

Array = npt.NDArray[Any]

MOST_HEADER_BYTES = 2**20
_CHUNK = 2**20
_GZIP_OR_ZLIB = 47  # zlib's own way to say: either header, told by its first bytes


@dataclass(frozen=True)
class VolumeHeader:
    """What a header states of one scalar 3D image.

    Attributes:
        shape: (x, y, z), x changes fastest.
        dtype: of the voxels, with its byte order.
        affine: 4x4 float64, voxel to RAS mm.
        compressed: whether the voxels are a gzip or zlib stream.
        data_file: name of the file with the voxels, beside the header; None for the header's own.
        skip: bytes before the voxels in that file; -1 where they end with the file.
        segmentation: whether it says that its values name segments.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    affine: Array
    compressed: bool = False
    data_file: str | None = None
    skip: int = 0
    segmentation: bool = False


def header_bytes(path: Path) -> bytes:
    """The first bytes of a file, all of its header unless that is absurdly long.

    Raises:
        MedsslError: FILE_UNREADABLE.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MOST_HEADER_BYTES)
    except OSError as error:
        raise MedsslError("FILE_UNREADABLE", f"Header: {type(error).__name__}") from None


def numbers(text: str, count: int, what: str) -> list[float]:
    """``count`` finite numbers, with blanks between.

    Raises:
        MedsslError: FILE_UNREADABLE, naming ``what``.
    """
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise MedsslError("FILE_UNREADABLE", f"Header: `{what}` is not {count} numbers")
    return values


def sizes(text: str, count: int, what: str) -> tuple[int, ...]:
    """``count`` whole numbers of 1 or more, with blanks between.

    Raises:
        MedsslError: FILE_UNREADABLE, VOLUME_EMPTY.
    """
    words = text.split()
    if len(words) != count or not all(w.isascii() and w.isdigit() for w in words):
        raise MedsslError("FILE_UNREADABLE", f"Header: `{what}` is not {count} whole numbers")
    values = tuple(int(word) for word in words)
    if min(values) < 1:
        raise MedsslError("VOLUME_EMPTY", "The image has no voxels")
    return values


def beside(name: str) -> str:
    """A data file's name as a relative path that stays in the header's folder.

    Raises:
        MedsslError: DATA_FILE_MISSING where it would lead out of it.
    """
    place = PurePosixPath(name)
    if not name or place.is_absolute() or ".." in place.parts or "\\" in name or ":" in name:
        raise MedsslError("DATA_FILE_MISSING", "The data file lies outside the header's folder")
    return str(place)


def lps_to_ras(affine: Array) -> Array:
    """The same places with x towards the patient's right and y towards the front."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def read_voxels(header: VolumeHeader, path: Path) -> tuple[Array, Array | None]:
    """Read the voxels that a header describes.

    Args:
        header: what is stated.
        path: the file with the voxels.

    Returns:
        (1, x, y, z) and the 4x4 affine to RAS mm; for an image of one slice along z (1, row,
        column), rows along y, and None.

    Raises:
        MedsslError: FILE_TRUNCATED, FILE_UNREADABLE (more voxels than stated), VOXELS_INVALID,
            AFFINE_INVALID.
    """
    from medssl.ingest.nifti import check_affine

    check_affine(header.affine)
    expected = math.prod(header.shape) * header.dtype.itemsize
    with path.open("rb") as stream:
        raw = (_unzipped if header.compressed else _plain)(stream, header.skip, expected)
    array = np.frombuffer(raw, header.dtype).reshape(header.shape, order="F")
    array = array.astype(header.dtype.newbyteorder("="), copy=False)
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise MedsslError("VOXELS_INVALID", "The image holds NaN or infinity")
    if header.shape[2] == 1:
        return array[..., 0].T[None], None
    return array[None], header.affine


def _plain(stream: BinaryIO, skip: int, expected: int) -> bytes:
    size = stream.seek(0, 2)
    skip = size - expected if skip < 0 else skip
    if skip < 0 or size - skip < expected:
        raise _truncated()
    if size - skip > expected:
        raise _too_long()
    stream.seek(skip)
    return stream.read(expected)


def _unzipped(stream: BinaryIO, skip: int, expected: int) -> bytes:
    """At most ``expected`` bytes are unpacked, whatever the stream would become."""
    stream.seek(skip)
    unpack, data = zlib.decompressobj(_GZIP_OR_ZLIB), bytearray()
    try:
        while not unpack.eof:
            packed = unpack.unconsumed_tail or stream.read(_CHUNK)
            data += unpack.decompress(packed, min(_CHUNK, expected + 1 - len(data)))
            if len(data) > expected:
                raise _too_long()
            if not packed:
                raise _truncated()
    except zlib.error:
        raise MedsslError("FILE_TRUNCATED", "The voxels are damaged") from None
    if len(data) < expected:
        raise _truncated()
    return bytes(data)


def _truncated() -> MedsslError:
    return MedsslError("FILE_TRUNCATED", "The voxels end early")


def _too_long() -> MedsslError:
    return MedsslError("FILE_UNREADABLE", "There are more voxels than the header states")
