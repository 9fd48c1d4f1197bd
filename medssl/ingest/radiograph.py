"""Radiographs (CR, DX, MG): each image is a 2D volume of its own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.errors import MedsslError
from medssl.ingest.geometry import SlicePose
from medssl.ingest.headers import SliceHeader, file_fields, rescaling
from medssl.ingest.tags import numbers, text, value

if TYPE_CHECKING:
    import pydicom

SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
"""In the patient where calibrated, else at the detector or on the film, the first that is stated
(DICOM PS3.3 10.7)."""


def radiograph(
    path: Path,
    data: pydicom.Dataset,
    allow: Collection[str] = (),
    accepted: tuple[str, ...] = (),
) -> SliceHeader:
    """The header of a radiograph.

    MONOCHROME1 and MONOCHROME2 radiographs of one kind are otherwise each other's negatives, so
    the former's values are turned round: bright is high, as it is shown (PS3.3 C.7.6.3.1.2).

    Args:
        path: the file.
        data: its header.
        allow: SPACING_UNKNOWN, to take pixels of 1 mm where no spacing is stated.
        accepted: codes accepted of the file so far.

    Raises:
        MedsslError: SPACING_UNKNOWN, DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    fields = file_fields(data)
    stated = [key for key in SPACINGS if value(data, key) not in (None, "")]
    if stated:
        spacing = numbers(data, stated[0], 2)
    elif "SPACING_UNKNOWN" in allow:
        spacing, accepted = (1.0, 1.0), (*accepted, "SPACING_UNKNOWN")
    else:
        raise MedsslError("SPACING_UNKNOWN", "No pixel spacing is stated")
    slope, intercept = rescaling(data, fields["modality"])
    return SliceHeader(
        path=path,
        pose=SlicePose((), (), spacing, fields["picture"]),
        slope=slope,
        intercept=intercept,
        thickness=None,
        declared_spacing=None,
        marks=(),
        kind="projection",
        defects=accepted,
        inverted=text(data, "PhotometricInterpretation") == "MONOCHROME1",
        **fields,
    )
