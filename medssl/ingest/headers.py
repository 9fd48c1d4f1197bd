"""What medssl reads of a DICOM slice's header, and what it refuses there."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from medssl.errors import MedsslError
from medssl.ingest.geometry import SlicePose
from medssl.ingest.stated import stated_counts
from medssl.ingest.tags import joined, number, numbers, required, text, words

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DICOMDIR = "1.2.840.10008.1.3.10"
CLASSIC = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
}
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # Legacy Converted
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",  # Legacy Converted
    "1.2.840.10008.5.1.4.1.1.128.1": "PT",  # Legacy Converted
    "1.2.840.10008.5.1.4.1.1.130": "PT",
}
PROJECTION = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",  # for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",  # for processing
    "1.2.840.10008.5.1.4.1.1.1.2": "MG",
    "1.2.840.10008.5.1.4.1.1.1.2.1": "MG",
}
_MODALITIES = CLASSIC | ENHANCED | PROJECTION
# Third and later values of Image Type (PS3.3 C.7.6.1.1.2) of images that are no acquired slices.
_PROJECTIONS = frozenset(
    {"PROJECTION IMAGE", "MIP", "MINIP", "MIN IP", "SCREEN SAVE", "DOSE_INFO", "SCREENSHOT"}
)
_TILT_DEGREES = 0.05

# What may tell the volumes of one series apart, the surest first.
MARKS = {
    "image_type": "ImageType",
    "echo_time": "EchoTime",
    "inversion_time": "InversionTime",
    "b_value": "DiffusionBValue",
    "gradient": "DiffusionGradientOrientation",
    "temporal_position": "TemporalPositionIdentifier",
    "trigger_time": "TriggerTime",
    "acquisition": "AcquisitionNumber",
    "acquisition_date": "AcquisitionDate",
    "acquisition_time": "AcquisitionTime",
    "instance": "InstanceNumber",
}
Marks = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SliceHeader:
    """What medssl reads of one slice of a CT, MR or PT series, or of one radiograph.

    UIDs and PatientID are real ones: they go through :mod:`medssl.ingest.pseudonym` before they are
    written anywhere.

    Attributes:
        pose: of the slice, which may be one frame of its file, or one tile of its picture; that of
            a radiograph has a pixel spacing alone.
        instance: Instance Number of its file.
        marks: what may tell volumes of one series apart, by name, the surest first.
        kind: "classic" (one slice a file), "enhanced" (frames), "mosaic" (tiles) or "projection"
            (a radiograph).
        frame: index of its frame in the file, which has ``frames``.
        stated: numbers of slices or images that the header states, where it does.
        defects: codes that were accepted on request.
        picture: rows and columns of the stored picture.
        tile: first row and column of the slice in the picture.
        body_part: Body Part Examined, where it lies at the top of the header.
        inverted: whether low stored values are bright and are turned round, as is done with
            radiographs alone.
    """

    path: Path
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    frame_uid: str
    modality: str
    pose: SlicePose
    slope: float
    intercept: float
    bits_stored: int
    signed: bool
    thickness: float | None
    declared_spacing: float | None
    instance: int | None
    marks: Marks
    picture: tuple[int, int]
    stated: tuple[int, ...] = ()
    defects: tuple[str, ...] = ()
    kind: str = "classic"
    frame: int = 0
    frames: int = 1
    tile: tuple[int, int] = (0, 0)
    inverted: bool = False
    body_part: str = ""


@dataclass(frozen=True)
class Refused:
    """A file that holds no slice medssl can use.

    Attributes:
        series_uid: its series where that could be read: the whole series is refused with it.
    """

    path: Path
    series_uid: str
    code: str
    detail: str


def refuse_kind(data: pydicom.Dataset, allow: Collection[str] = ()) -> tuple[str, ...]:
    """Raise for what is not a grey CT, MR or PT image or radiograph.

    Args:
        data: the header.
        allow: LOCALIZER or DERIVED, to accept such images.

    Returns:
        the codes that were accepted.

    Raises:
        MedsslError: NOT_AN_IMAGE, FILE_UNREADABLE, MODALITY_UNSUPPORTED, COLOUR_UNSUPPORTED,
            DERIVED, LOCALIZER, GANTRY_TILT, DICOM_TAG_INVALID.
    """
    sop_class = text(data, "SOPClassUID")
    meta = getattr(data, "file_meta", None)
    if meta is not None and text(meta, "MediaStorageSOPClassUID") == DICOMDIR:
        raise MedsslError("NOT_AN_IMAGE", "A DICOMDIR, which only lists other files")
    if not sop_class and not text(data, "SOPInstanceUID"):
        raise MedsslError("FILE_UNREADABLE", "The header holds no DICOM object")
    frames = number(data, "NumberOfFrames")
    if sop_class not in ENHANCED and frames is not None and frames != 1:
        raise MedsslError("MODALITY_UNSUPPORTED", "Several frames in an image of one frame")
    if number(data, "Rows") is None:
        raise MedsslError("MODALITY_UNSUPPORTED", "A DICOM object without pixels")
    samples = number(data, "SamplesPerPixel")
    photometric = text(data, "PhotometricInterpretation")
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise MedsslError("COLOUR_UNSUPPORTED", "Not a grey image")
    if sop_class == SECONDARY_CAPTURE:
        raise MedsslError("DERIVED", "A secondary capture")
    if sop_class not in _MODALITIES:
        raise MedsslError("MODALITY_UNSUPPORTED", "Not a CT, MR or PT image or radiograph")
    accepted = refuse_image_type(words(data, "ImageType"), allow)
    tilt = number(data, "GantryDetectorTilt")
    if tilt is not None and not abs(tilt) <= _TILT_DEGREES:
        raise MedsslError("GANTRY_TILT", "The header states a gantry tilt")
    return accepted


def refuse_image_type(image_type: list[str], allow: Collection[str] = ()) -> tuple[str, ...]:
    """Raise for an Image Type or Frame Type of what is no acquired slice.

    Returns:
        the codes of ``allow`` that were needed.

    Raises:
        MedsslError: LOCALIZER, DERIVED.
    """
    found = {
        "LOCALIZER": bool({"LOCALIZER", "SCOUT"} & set(image_type)),
        "DERIVED": bool(_PROJECTIONS & set(image_type)),
    }
    codes = tuple(code for code, present in found.items() if present)
    for code in codes:
        if code not in allow:
            raise MedsslError(code, "Image Type says so: localizer, projection or screen")
    return codes


def refuse_pixels(data: pydicom.Dataset) -> None:
    """Raise for stored values whose meaning is not certain.

    Raises:
        MedsslError: PIXEL_FORMAT_UNSUPPORTED, DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    allocated, stored, high = (
        required(data, key) for key in ("BitsAllocated", "BitsStored", "HighBit")
    )
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "Not 8, 16 or 32 bits per pixel")
    if high != stored - 1:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The value does not start at bit 0")
    if required(data, "PixelRepresentation") not in (0, 1):
        raise MedsslError("DICOM_TAG_INVALID", "Pixel Representation is neither 0 nor 1")
    if "ModalityLUTSequence" in data:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "Values go through a Modality LUT")
    if required(data, "Rows") < 1 or required(data, "Columns") < 1:
        raise MedsslError("DICOM_TAG_INVALID", "Rows or Columns is 0")


def rescaling(data: pydicom.Dataset, modality: str) -> tuple[float, float]:
    """Rescale Slope and Intercept of an image, or of its Pixel Value Transformation item.

    Raises:
        MedsslError: DICOM_TAG_MISSING (one without the other; a CT or PT without them),
            DICOM_TAG_INVALID, PIXEL_FORMAT_UNSUPPORTED (a CT whose values are not HU).
    """
    slope, intercept = number(data, "RescaleSlope"), number(data, "RescaleIntercept")
    if (slope is None) != (intercept is None):
        raise MedsslError("DICOM_TAG_MISSING", "Only one of Rescale Slope and Rescale Intercept")
    if modality == "CT" and text(data, "RescaleType") not in ("", "HU", "US"):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "A CT whose values are not HU")
    if slope is None or intercept is None:
        if modality in ("CT", "PT"):
            raise MedsslError(
                "DICOM_TAG_MISSING", f"A {modality} without Rescale Slope and Intercept"
            )
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise MedsslError("DICOM_TAG_INVALID", "The rescaling is zero or not a number")
    return slope, intercept


def file_fields(data: pydicom.Dataset) -> dict[str, Any]:
    """The fields of :class:`SliceHeader` that all slices of a file share.

    Raises:
        MedsslError: DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    uids = {key: text(data, key) for key in ("SOPInstanceUID", "SeriesInstanceUID")}
    missing = [key for key, found in uids.items() if not found]
    if missing:
        raise MedsslError("DICOM_TAG_MISSING", f"{missing[0]} is absent")
    sop_class = text(data, "SOPClassUID")
    instance = number(data, "InstanceNumber")
    whole = instance is not None and math.isfinite(instance)
    return {
        "sop_uid": uids["SOPInstanceUID"],
        "series_uid": uids["SeriesInstanceUID"],
        "study_uid": text(data, "StudyInstanceUID"),
        "patient_id": text(data, "PatientID"),
        "frame_uid": text(data, "FrameOfReferenceUID"),
        "modality": _MODALITIES[sop_class],
        "bits_stored": int(required(data, "BitsStored")),
        "signed": required(data, "PixelRepresentation") == 1,
        "picture": (int(required(data, "Rows")), int(required(data, "Columns"))),
        "body_part": text(data, "BodyPartExamined"),
        "instance": int(instance) if whole and instance is not None else None,
    }


def classic_slice(path: Path, data: pydicom.Dataset) -> SliceHeader:
    """The slice of a classic image, whose tags lie at the top.

    Raises:
        MedsslError: DICOM_TAG_MISSING, DICOM_TAG_INVALID, PIXEL_FORMAT_UNSUPPORTED.
    """
    fields = file_fields(data)
    pose = SlicePose(
        orientation=numbers(data, "ImageOrientationPatient", 6),
        position=numbers(data, "ImagePositionPatient", 3),
        pixel_spacing=numbers(data, "PixelSpacing", 2),
        shape=fields["picture"],
    )
    slope, intercept = rescaling(data, fields["modality"])
    marks = tuple((name, joined(data, key)) for name, key in MARKS.items())
    return SliceHeader(
        path=path,
        pose=pose,
        slope=slope,
        intercept=intercept,
        thickness=number(data, "SliceThickness"),
        declared_spacing=number(data, "SpacingBetweenSlices"),
        marks=marks,
        stated=stated_counts(data),
        **fields,
    )
