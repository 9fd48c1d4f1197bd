"""The slices of one DICOM file: one, or a frame each, or a tile each."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from medssl.errors import MedsslError
from medssl.ingest.enhanced import enhanced_slices
from medssl.ingest.facts import FACT_TAGS
from medssl.ingest.headers import (
    ENHANCED,
    MARKS,
    PROJECTION,
    Refused,
    SliceHeader,
    classic_slice,
    refuse_kind,
    refuse_pixels,
)
from medssl.ingest.mosaic import MOSAIC_TAGS, is_mosaic, mosaic_slices
from medssl.ingest.radiograph import SPACINGS, radiograph
from medssl.ingest.stated import STATED_TAGS
from medssl.ingest.tags import text

_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "FrameOfReferenceUID",
    "Modality",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "GantryDetectorTilt",
    "DimensionIndexSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TAGS: list[Any] = [
    Tag(key)
    for key in (*_KEYWORDS, *MARKS.values(), *STATED_TAGS, *SPACINGS, *MOSAIC_TAGS, *FACT_TAGS)
]


def read_slices(path: Path, allow: Collection[str] = ()) -> list[SliceHeader] | Refused:
    """Read one file's header, up to the pixels. Never raises for what a file holds.

    Args:
        path: the file.
        allow: codes of defects to accept.

    Returns:
        its slices in the order of its frames or tiles, one or more.
    """
    series_uid = ""
    try:
        # pydicom's warnings quote values, and values can be a patient's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = _open(path)
            series_uid = text(data, "SeriesInstanceUID")
            accepted = refuse_kind(data, allow)
            refuse_pixels(data)
            if text(data, "SOPClassUID") in ENHANCED:
                return enhanced_slices(path, data, allow, accepted)
            if text(data, "SOPClassUID") in PROJECTION:
                return [radiograph(path, data, allow, accepted)]
            one = replace(classic_slice(path, data), defects=accepted)
            return mosaic_slices(one, data) if is_mosaic(data) else [one]
    except MedsslError as error:
        return Refused(path, series_uid, error.code, error.what)


def _open(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise MedsslError("FILE_UNREADABLE", f"Not readable: {type(error).__name__}") from None
    # A hostile or broken header can raise anything inside pydicom; it is that file's rejection.
    except Exception as error:
        raise MedsslError("FILE_UNREADABLE", f"Not parsable: {type(error).__name__}") from None
