"""Siemens mosaics: the slices of one volume tiled in one picture.

The tiles fill a square from the upper left, row by row; their number, and the direction in which
they are stacked, are in Siemens' private CSA header. The stated position is that of a picture as
large as the whole mosaic around the first slice's centre, so the first slice lies half of the
difference further in (nibabel, "Siemens mosaic format").
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.geometry import SlicePose, check_plane
from medssl.ingest.headers import SliceHeader
from medssl.ingest.tags import number, required, text, value, words

if TYPE_CHECKING:
    import pydicom

Array = npt.NDArray[Any]

_COUNT_CREATOR, _COUNT = 0x00190010, 0x0019100A  # Number Of Images In Mosaic
_CSA_CREATOR, CSA = 0x00290010, 0x00291010  # CSA Image Header Info
MOSAIC_TAGS = (_COUNT_CREATOR, _COUNT, _CSA_CREATOR, CSA)
_PARALLEL = 1e-3  # how far the two normals may be apart
_TOO_LARGE = 10_000


def is_mosaic(data: pydicom.Dataset) -> bool:
    """Whether the picture of a classic image is a mosaic."""
    stated = number(data, _COUNT) if "SIEMENS" in text(data, _COUNT_CREATOR) else None
    return "MOSAIC" in words(data, "ImageType") or (stated or 0) > 1


def mosaic_slices(whole: SliceHeader, data: pydicom.Dataset) -> list[SliceHeader]:
    """One slice for each tile, in the order of the tiles.

    Args:
        whole: the header as that of a classic slice.
        data: the same with its private tags.

    Raises:
        MedsslError: MOSAIC_UNSUPPORTED where number, direction or distance of the slices is not
            stated or contradicts the picture; DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    check_plane([whole.pose])
    csa = _csa(data)
    count = _count(data, csa)
    side = math.ceil(math.sqrt(count))
    rows, columns = whole.picture
    if rows % side or columns % side:
        raise MedsslError("MOSAIC_UNSUPPORTED", "The picture does not divide into its tiles")
    shape = (rows // side, columns // side)
    orientation = np.asarray(whole.pose.orientation, dtype=np.float64)
    row, column = orientation[:3], orientation[3:]
    step = _normal(csa, np.cross(row, column)) * required(data, "SpacingBetweenSlices")
    between_rows, between_columns = whole.pose.pixel_spacing
    first = np.asarray(whole.pose.position, dtype=np.float64)
    first = first + row * between_columns * (columns - shape[1]) / 2
    first = first + column * between_rows * (rows - shape[0]) / 2
    shared = {**vars(whole), "kind": "mosaic", "declared_spacing": None, "stated": ()}
    return [
        SliceHeader(
            **{
                **shared,
                "pose": SlicePose(
                    whole.pose.orientation,
                    tuple((first + index * step).tolist()),
                    whole.pose.pixel_spacing,
                    shape,
                ),
                "tile": (index // side * shape[0], index % side * shape[1]),
            }
        )
        for index in range(count)
    ]


def _csa(data: pydicom.Dataset) -> dict[str, Any]:
    from nibabel.nicom import csareader

    stored = value(data, CSA) if "SIEMENS CSA HEADER" in text(data, _CSA_CREATOR) else None
    if not isinstance(stored, bytes):
        raise MedsslError("MOSAIC_UNSUPPORTED", "It has no CSA header")
    try:
        tags: dict[str, Any] = csareader.read(stored)["tags"]
    # The header is Siemens' own binary format, and a damaged one makes the reader raise anything.
    except Exception:
        raise MedsslError("MOSAIC_UNSUPPORTED", "The CSA header cannot be read") from None
    return tags


def _items(csa: dict[str, Any], name: str) -> list[Any]:
    return list(csa.get(name, {}).get("items", []))


def _count(data: pydicom.Dataset, csa: dict[str, Any]) -> int:
    """How many tiles; the header's two places must agree."""
    found = {int(item) for item in _items(csa, "NumberOfImagesInMosaic")[:1]}
    stated = number(data, _COUNT) if "SIEMENS" in text(data, _COUNT_CREATOR) else None
    if stated is not None:
        found.add(int(stated))
    if len(found) != 1 or not 1 < min(found) < _TOO_LARGE:
        raise MedsslError("MOSAIC_UNSUPPORTED", "How many slices it holds is not certain")
    return found.pop()


def _normal(csa: dict[str, Any], across: Array) -> Array:
    """The direction in which slices are stacked: along or against the normal of the picture."""
    stated = np.asarray(_items(csa, "SliceNormalVector"), dtype=np.float64)
    if stated.shape != (3,) or not np.isfinite(stated).all():
        raise MedsslError("MOSAIC_UNSUPPORTED", "The direction of its slices is not stated")
    along = float(stated @ across)
    if abs(abs(along) - 1) > _PARALLEL:
        raise MedsslError("MOSAIC_UNSUPPORTED", "Its slices are not stacked along the normal")
    return np.asarray(across * np.sign(along))
