"""NRRD headers (Teem's "Definition of NRRD File Format"): what they state, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.plainvolume import VolumeHeader, beside, numbers, sizes

Array = npt.NDArray[Any]

# Signs that take each space to RAS.
_SPACES = {
    "right-anterior-superior": (1, 1),
    "ras": (1, 1),
    "left-anterior-superior": (-1, 1),
    "las": (-1, 1),
    "left-posterior-superior": (-1, -1),
    "lps": (-1, -1),
}
_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
_ENCODINGS = {"raw": False, "gzip": True, "gz": True}
_ALIASES = {
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "oldmin": "old min",
    "oldmax": "old max",
    "axismins": "axis mins",
    "axismaxs": "axis maxs",
    "sampleunits": "sample units",
    "centerings": "centers",
}
_READ = ("type", "dimension", "space", "sizes", "space directions", "space origin", "space units",
         "units", "kinds", "endian", "encoding", "data file", "line skip", "byte skip")  # fmt: skip
_HARMLESS = ("content", "number", "sample units", "thicknesses", "centers", "labels", "min", "max",
             "measurement frame", "block size", "space dimension")  # fmt: skip
_OTHER_GEOMETRY = ("spacings", "axis mins", "axis maxs")
_SCALAR_KINDS = ("domain", "space", "???", "none")
_MILLIMETRES = ("mm", "millimeter", "millimeters", "")


def parse_nrrd(head: bytes) -> VolumeHeader:
    """What the header of an NRRD file states.

    Args:
        head: the first bytes of the file, header and more.

    Returns:
        the header of one scalar 3D image. An origin that is a point in the patient, ``space
        directions`` and one of the three patient spaces (RAS, LAS, LPS) must be stated.

    Raises:
        MedsslError: FILE_UNREADABLE, FORMAT_UNSUPPORTED, PIXEL_FORMAT_UNSUPPORTED,
            COLOUR_UNSUPPORTED, TIME_SERIES_UNSUPPORTED, AFFINE_INVALID, AFFINE_AMBIGUOUS,
            VOLUME_EMPTY, DATA_FILE_MISSING.
    """
    fields, keys, length = _fields(head)
    _check_dimensions(fields)
    shape = sizes(_stated(fields, "sizes"), 3, "sizes")
    dtype, compressed = _voxel_format(fields)
    skip = _skip(fields, compressed)
    data_file = fields.get("data file")
    return VolumeHeader(
        shape=(shape[0], shape[1], shape[2]),
        dtype=dtype,
        affine=_affine(fields),
        compressed=compressed,
        data_file=None if data_file is None else _one_file(data_file),
        skip=length if data_file is None and skip == 0 else skip,
        segmentation=any(re.fullmatch(r"Segment\d+_\w+", key) for key in keys),
    )


def _fields(head: bytes) -> tuple[dict[str, str], set[str], int]:
    """Fields by their plain names, the names of the keys, and how long the header is."""
    fields: dict[str, str] = {}
    keys: set[str] = set()
    position = 0
    for number, line in enumerate(head.splitlines(keepends=True)):
        position += len(line)
        text = line.decode("latin-1").rstrip("\r\n")
        if number == 0 or text.startswith("#"):
            continue
        if not text and line.endswith(b"\n"):
            return fields, keys, position
        if ":=" in text and not re.match(r"[a-z ]+: ", text):
            keys.add(text.split(":=")[0])
            continue
        name, colon, value = text.partition(": ")
        name = _ALIASES.get(name.strip().lower(), name.strip().lower())
        if not colon or name not in (*_READ, *_HARMLESS, *_OTHER_GEOMETRY, "old min", "old max"):
            raise MedsslError("FILE_UNREADABLE", "Header: a line that NRRD does not define")
        if name in fields:
            raise MedsslError("FILE_UNREADABLE", f"Header: `{name}` is stated twice")
        fields[name] = value.strip()
    if "data file" not in fields:
        raise MedsslError("FILE_TRUNCATED", "The header does not end")
    return fields, keys, position


def _stated(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise MedsslError("FILE_UNREADABLE", f"Header: `{name}` is not stated")
    return fields[name]


def _check_dimensions(fields: dict[str, str]) -> None:
    dimension = _stated(fields, "dimension")
    kinds = fields.get("kinds", "").lower().split()
    ranges = [kind for kind in kinds if kind not in _SCALAR_KINDS]
    if any("color" in kind for kind in ranges):
        raise MedsslError("COLOUR_UNSUPPORTED", "The voxels are colours")
    if any(kind not in ("time", "list") for kind in ranges):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The voxels are not single numbers")
    if ranges or dimension not in ("2", "3"):
        raise MedsslError("TIME_SERIES_UNSUPPORTED", "The image is not three-dimensional in space")
    if dimension == "2":
        raise MedsslError("FORMAT_UNSUPPORTED", "A 2D image in NRRD; PNG and TIFF are read")


def _voxel_format(fields: dict[str, str]) -> tuple[np.dtype[Any], bool]:
    code = _DTYPES.get(_stated(fields, "type").lower())
    encoding = _stated(fields, "encoding").lower()
    if code is None:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The voxels are not single numbers")
    if encoding not in _ENCODINGS:
        raise MedsslError("FORMAT_UNSUPPORTED", "NRRD is read as raw or gzip only")
    if "old min" in fields or "old max" in fields:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The values were mapped to another range")
    order = "<"
    if code[1] != "1":
        endian = _stated(fields, "endian").lower()
        if endian not in ("little", "big"):
            raise MedsslError("FILE_UNREADABLE", "Header: `endian` is neither little nor big")
        order = "<" if endian == "little" else ">"
    return np.dtype(order + code), _ENCODINGS[encoding]


def _skip(fields: dict[str, str], compressed: bool) -> int:
    skip = fields.get("byte skip", "0")
    if fields.get("line skip", "0") != "0" or not re.fullmatch(r"-1|\d+", skip):
        raise MedsslError("FORMAT_UNSUPPORTED", "Lines to skip before the voxels are not read")
    if skip != "0" and (compressed or "data file" not in fields):
        raise MedsslError("FORMAT_UNSUPPORTED", "Bytes to skip before these voxels are not read")
    return int(skip)


def _one_file(name: str) -> str:
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise MedsslError("FORMAT_UNSUPPORTED", "NRRD over several data files is not read")
    return beside(name)


def _affine(fields: dict[str, str]) -> Array:
    for name in ("space", "space directions", "space origin"):
        if name not in fields:
            raise MedsslError("AFFINE_INVALID", f"The header does not state `{name}`")
    signs = _SPACES.get(fields["space"].lower())
    if signs is None:
        raise MedsslError("AFFINE_INVALID", "The space is not one of the patient: RAS, LAS or LPS")
    if any(name in fields for name in _OTHER_GEOMETRY):
        raise MedsslError("AFFINE_AMBIGUOUS", "Spacings are stated beside the space directions")
    units = re.findall(r'"([^"]*)"', fields.get("space units", "") + fields.get("units", ""))
    if any(unit.lower() not in _MILLIMETRES for unit in units):
        raise MedsslError("AFFINE_INVALID", "The header states its lengths in other units than mm")
    vectors = _vectors(fields["space directions"], 3)
    affine = np.eye(4)
    affine[:3, :3] = np.array(vectors).T
    affine[:3, 3] = _vectors(fields["space origin"], 1)[0]
    return np.diag([*signs, 1.0, 1.0]) @ affine


def _vectors(text: str, count: int) -> list[list[float]]:
    """``(1,0,0) (0,1,0)``: so many vectors of three numbers.

    Raises:
        MedsslError: AFFINE_INVALID.
    """
    inside = re.findall(r"\(([^()]*)\)", text)
    rest = re.sub(r"\([^()]*\)", "", text)
    try:
        if len(inside) != count or rest.strip():
            raise MedsslError("AFFINE_INVALID", "Not every axis of the image has a direction")
        return [numbers(vector.replace(",", " "), 3, "space") for vector in inside]
    except MedsslError as error:
        raise MedsslError("AFFINE_INVALID", error.what) from None
