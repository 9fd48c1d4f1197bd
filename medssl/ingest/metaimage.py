"""MetaImage headers (``.mha``, ``.mhd``): what they state, and nothing else.

The keys are those of the MetaIO documentation; positions are in LPS, and the letters of
``AnatomicalOrientation`` say where each axis comes from, as ITK writes and reads them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.plainvolume import VolumeHeader, beside, lps_to_ras, numbers, sizes

Array = npt.NDArray[Any]

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN = ("Offset", "Position", "Origin")
_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
# Where an axis comes from, as the direction in LPS that it then runs to.
_FROM = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "I": (0, 0, 1),
    "S": (0, 0, -1),
}
_CLEARLY_ALONG = 0.5
"""Smallest cosine between an axis and the direction of its letter: oblique axes reach 0.58."""


def parse_metaimage(head: bytes) -> VolumeHeader:
    """What the header of a MetaImage file states.

    Args:
        head: the first bytes of the file, header and more.

    Returns:
        the header of one scalar 3D image. Matrix, offset, spacing and anatomical orientation must
        all be stated, and the letters must agree with the matrix.

    Raises:
        MedsslError: FILE_UNREADABLE, FILE_TRUNCATED, FORMAT_UNSUPPORTED, PIXEL_FORMAT_UNSUPPORTED,
            TIME_SERIES_UNSUPPORTED, AFFINE_INVALID, AFFINE_AMBIGUOUS, SPACING_UNKNOWN,
            SPACING_INVALID, VOLUME_EMPTY, DATA_FILE_MISSING.
    """
    keys, length = _keys(head)
    if keys.get("ObjectType", "Image") != "Image":
        raise MedsslError("FORMAT_UNSUPPORTED", "A MetaIO object that is no image")
    _check_dimensions(keys)
    shape = sizes(_one(keys, ("DimSize",)), 3, "DimSize")
    dtype, compressed = _voxel_format(keys)
    name = keys["ElementDataFile"]
    local = name in ("LOCAL", "Local", "local")
    skip = numbers(keys.get("HeaderSize", "0"), 1, "HeaderSize")[0]
    if skip not in (0, -1) and (local or skip < 0 or compressed or skip != int(skip)):
        raise MedsslError("FORMAT_UNSUPPORTED", "Bytes to skip before these voxels are not read")
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise MedsslError("FORMAT_UNSUPPORTED", "MetaImage over several data files is not read")
    return VolumeHeader(
        shape=(shape[0], shape[1], shape[2]),
        dtype=dtype,
        affine=_affine(keys),
        compressed=compressed,
        data_file=None if local else beside(name),
        skip=length if local else int(skip),
    )


def _keys(head: bytes) -> tuple[dict[str, str], int]:
    """Values by key, and how long the header is."""
    keys: dict[str, str] = {}
    position = 0
    for line in head.splitlines(keepends=True):
        position += len(line)
        name, equals, value = line.decode("latin-1").partition("=")
        name = name.strip()
        if not equals:
            if name:
                raise MedsslError("FILE_UNREADABLE", "Header: a line without `=`")
            continue
        if name in keys:
            raise MedsslError("FILE_UNREADABLE", "Header: a key is stated twice")
        keys[name] = value.strip()
        if name == "ElementDataFile":
            return keys, position
    raise MedsslError("FILE_TRUNCATED", "The header does not end")


def _one(keys: dict[str, str], names: tuple[str, ...], code: str = "FILE_UNREADABLE") -> str:
    """The value that is stated under one of several names, once."""
    values = [keys[name] for name in names if name in keys]
    if not values:
        raise MedsslError(code, f"The header does not state `{names[0]}`")
    if len(set(values)) > 1:
        raise MedsslError("AFFINE_AMBIGUOUS", f"`{names[0]}` is stated twice, differently")
    return values[0]


def _check_dimensions(keys: dict[str, str]) -> None:
    dimensions = _one(keys, ("NDims",))
    if keys.get("ElementNumberOfChannels", "1") != "1":
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The voxels are not single numbers")
    if dimensions == "2":
        raise MedsslError("FORMAT_UNSUPPORTED", "A 2D image in MetaImage; PNG and TIFF are read")
    if dimensions != "3":
        raise MedsslError("TIME_SERIES_UNSUPPORTED", "The image is not three-dimensional in space")


def _true(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise MedsslError("FILE_UNREADABLE", "Header: neither True nor False")
    return text.lower() in ("true", "1")


def _voxel_format(keys: dict[str, str]) -> tuple[np.dtype[Any], bool]:
    code = _TYPES.get(_one(keys, ("ElementType",)))
    if code is None:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The type of the voxels is not read")
    if not _true(_one(keys, ("BinaryData",))):
        raise MedsslError("FORMAT_UNSUPPORTED", "Voxels as text are not read")
    for name, neutral in (("Slope", 1.0), ("Offset", 0.0)):
        key = f"ElementToIntensityFunction{name}"
        if numbers(keys.get(key, str(neutral)), 1, key)[0] != neutral:
            raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The values are to be mapped to others")
    big = _true(_one(keys, _ORDER)) if code[1] != "1" else False
    return np.dtype((">" if big else "<") + code), _true(keys.get("CompressedData", "False"))


def _affine(keys: dict[str, str]) -> Array:
    matrix = np.array(numbers(_one(keys, _MATRIX, "AFFINE_INVALID"), 9, _MATRIX[0])).reshape(3, 3)
    spacing = numbers(_one(keys, ("ElementSpacing",), "SPACING_UNKNOWN"), 3, "ElementSpacing")
    if min(spacing) <= 0:
        raise MedsslError("SPACING_INVALID", "A voxel size is zero or negative")
    if keys.get("DistanceUnits", "?").lower() not in ("mm", "?"):
        raise MedsslError("AFFINE_INVALID", "The header states its lengths in other units than mm")
    if any(numbers(keys.get("CenterOfRotation", "0 0 0"), 3, "CenterOfRotation")):
        raise MedsslError("AFFINE_AMBIGUOUS", "A centre of rotation is stated beside the offset")
    if np.abs(np.linalg.norm(matrix, axis=1) - 1).max() > 1e-3:
        raise MedsslError("AFFINE_INVALID", "The rows of the matrix are not of length 1")
    _check_letters(_one(keys, ("AnatomicalOrientation",), "AFFINE_INVALID"), matrix)
    affine = np.eye(4)
    affine[:3, :3] = matrix.T * spacing  # a row of the matrix is the direction of an axis
    affine[:3, 3] = numbers(_one(keys, _ORIGIN, "AFFINE_INVALID"), 3, _ORIGIN[0])
    return lps_to_ras(affine)


def _check_letters(letters: str, matrix: Array) -> None:
    if len(letters) != 3 or not set(letters) <= set(_FROM):
        raise MedsslError("AFFINE_INVALID", "The header does not state the anatomical orientation")
    directions = np.array([_FROM[letter] for letter in letters])
    if ((matrix * directions).sum(axis=1) < _CLEARLY_ALONG).any():
        raise MedsslError("AFFINE_AMBIGUOUS", "The matrix and the anatomical orientation disagree")
