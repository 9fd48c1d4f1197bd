"""One DICOM file's header: what geometry and pixels need, or why the file is refused."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from medssl.errors import MedsslError
from medssl.ingest.geometry import SlicePose

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DICOMDIR = "1.2.840.10008.1.3.10"
ENHANCED = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
        "1.2.840.10008.5.1.4.1.1.4.3",  # Enhanced MR Colour
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR
        "1.2.840.10008.5.1.4.1.1.128.1",  # Legacy Converted Enhanced PET
        "1.2.840.10008.5.1.4.1.1.130",  # Enhanced PET
    }
)
# Third and later values of Image Type (PS3.3 C.7.6.1.1.2) of images that are no acquired slices.
_PROJECTIONS = frozenset(
    {"PROJECTION IMAGE", "MIP", "MINIP", "MIN IP", "SCREEN SAVE", "DOSE_INFO", "SCREENSHOT"}
)
_TILT_DEGREES = 0.05
_MOSAIC_COUNT = 0x0019100A  # Siemens: Number Of Images In Mosaic
_CSA_CREATOR = 0x00190010

_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
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
    "EchoTime",
    "GantryDetectorTilt",
)
_TAGS: list[Any] = [*_KEYWORDS, _CSA_CREATOR, _MOSAIC_COUNT]


@dataclass(frozen=True)
class SliceHeader:
    """What medssl reads of one single-frame CT or MR image. UIDs and PatientID are real ones:
    they go through :mod:`medssl.ingest.pseudonym` before they are written anywhere."""

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
    echo_time: float | None
    thickness: float | None
    declared_spacing: float | None


@dataclass(frozen=True)
class Refused:
    """A file that is no slice medssl can use.

    Attributes:
        series_uid: its series where that could be read: the whole series is refused with it.
    """

    path: Path
    series_uid: str
    code: str
    detail: str


def read_header(path: Path) -> SliceHeader | Refused:
    """Read one file's header, up to the pixels. Never raises for what a file holds."""
    series_uid = ""
    try:
        # pydicom's warnings quote values, and values can be a patient's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = _open(path)
            series_uid = _text(data, "SeriesInstanceUID")
            _refuse_kind(data)
            _refuse_pixels(data)
            return _as_slice(path, data)
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


def _refuse_kind(data: pydicom.Dataset) -> None:
    """Raise for what is not a classic, single-frame, grey CT or MR slice."""
    sop_class = _text(data, "SOPClassUID")
    meta = getattr(data, "file_meta", None)
    if meta is not None and _text(meta, "MediaStorageSOPClassUID") == DICOMDIR:
        raise MedsslError("NOT_AN_IMAGE", "A DICOMDIR, which only lists other files")
    if not sop_class and not _text(data, "SOPInstanceUID"):
        raise MedsslError("FILE_UNREADABLE", "The header holds no DICOM object")
    image_type = _words(data, "ImageType")
    frames = _number(data, "NumberOfFrames")
    if sop_class in ENHANCED or (frames is not None and frames != 1):
        raise MedsslError("ENHANCED_UNSUPPORTED", "Several frames in one file")
    mosaic = _number(data, _MOSAIC_COUNT) if "SIEMENS" in _text(data, _CSA_CREATOR) else None
    if "MOSAIC" in image_type or (mosaic or 0) > 1:
        raise MedsslError("MOSAIC_UNSUPPORTED", "Several slices tiled in one frame")
    if _number(data, "Rows") is None:
        raise MedsslError("MODALITY_UNSUPPORTED", "A DICOM object without pixels")
    samples = _number(data, "SamplesPerPixel")
    photometric = _text(data, "PhotometricInterpretation")
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise MedsslError("COLOUR_UNSUPPORTED", "Not a grey image")
    if sop_class == SECONDARY_CAPTURE:
        raise MedsslError("DERIVED", "A secondary capture")
    if sop_class not in (CT_IMAGE, MR_IMAGE):
        raise MedsslError("MODALITY_UNSUPPORTED", "Not a CT or MR image")
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        raise MedsslError("LOCALIZER", "Image Type says localizer")
    if _PROJECTIONS & set(image_type):
        raise MedsslError("DERIVED", "Image Type says projection or screen")
    tilt = _number(data, "GantryDetectorTilt")
    if tilt is not None and not abs(tilt) <= _TILT_DEGREES:
        raise MedsslError("GANTRY_TILT", "The header states a gantry tilt")


def _refuse_pixels(data: pydicom.Dataset) -> None:
    """Raise for stored values whose meaning is not certain."""
    allocated, stored, high = (
        _required(data, key) for key in ("BitsAllocated", "BitsStored", "HighBit")
    )
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "Not 8, 16 or 32 bits per pixel")
    if high != stored - 1:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "The value does not start at bit 0")
    if _required(data, "PixelRepresentation") not in (0, 1):
        raise MedsslError("DICOM_TAG_INVALID", "Pixel Representation is neither 0 nor 1")
    if "ModalityLUTSequence" in data:
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "Values go through a Modality LUT")
    slope, intercept = _number(data, "RescaleSlope"), _number(data, "RescaleIntercept")
    if (slope is None) != (intercept is None):
        raise MedsslError("DICOM_TAG_MISSING", "Only one of Rescale Slope and Rescale Intercept")
    if slope is not None and intercept is not None:
        if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
            raise MedsslError("DICOM_TAG_INVALID", "The rescaling is zero or not a number")
    elif _text(data, "SOPClassUID") == CT_IMAGE:
        raise MedsslError("DICOM_TAG_MISSING", "A CT without Rescale Slope and Intercept")
    if _text(data, "SOPClassUID") == CT_IMAGE and _text(data, "RescaleType") not in (
        "",
        "HU",
        "US",
    ):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "A CT whose values are not HU")


def _as_slice(path: Path, data: pydicom.Dataset) -> SliceHeader:
    uids = {key: _text(data, key) for key in ("SOPInstanceUID", "SeriesInstanceUID")}
    missing = [key for key, value in uids.items() if not value]
    if missing:
        raise MedsslError("DICOM_TAG_MISSING", f"{missing[0]} is absent")
    rows, columns = _required(data, "Rows"), _required(data, "Columns")
    if rows < 1 or columns < 1:
        raise MedsslError("DICOM_TAG_INVALID", "Rows or Columns is 0")
    pose = SlicePose(
        orientation=_numbers(data, "ImageOrientationPatient", 6),
        position=_numbers(data, "ImagePositionPatient", 3),
        pixel_spacing=_numbers(data, "PixelSpacing", 2),
        shape=(int(rows), int(columns)),
    )
    slope, intercept = _number(data, "RescaleSlope"), _number(data, "RescaleIntercept")
    return SliceHeader(
        path=path,
        sop_uid=uids["SOPInstanceUID"],
        series_uid=uids["SeriesInstanceUID"],
        study_uid=_text(data, "StudyInstanceUID"),
        patient_id=_text(data, "PatientID"),
        frame_uid=_text(data, "FrameOfReferenceUID"),
        modality="CT" if _text(data, "SOPClassUID") == CT_IMAGE else "MR",
        pose=pose,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        bits_stored=int(_required(data, "BitsStored")),
        signed=_required(data, "PixelRepresentation") == 1,
        echo_time=_number(data, "EchoTime"),
        thickness=_number(data, "SliceThickness"),
        declared_spacing=_number(data, "SpacingBetweenSlices"),
    )


def _value(data: pydicom.Dataset, key: str | int) -> Any:
    try:
        if key not in data:
            return None
        return data[key].value
    # pydicom converts a value when it is first asked for, and quotes it in what it raises.
    except Exception:
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} cannot be read") from None


def _name(key: str | int) -> str:
    return key if isinstance(key, str) else f"({key >> 16:04x},{key & 0xFFFF:04x})"


def _text(data: pydicom.Dataset, key: str | int) -> str:
    value = _value(data, key)
    return "" if value is None else str(value).strip(" \0")


def _words(data: pydicom.Dataset, key: str) -> list[str]:
    value = _value(data, key)
    values = [value] if isinstance(value, str) else (value or [])
    return [str(word).strip().upper() for word in values]


def _number(data: pydicom.Dataset, key: str | int) -> float | None:
    value = _value(data, key)
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} is not one number") from None


def _required(data: pydicom.Dataset, key: str) -> float:
    value = _number(data, key)
    if value is None:
        raise MedsslError("DICOM_TAG_MISSING", f"{key} is absent")
    return value


def _numbers(data: pydicom.Dataset, key: str, count: int) -> tuple[float, ...]:
    value = _value(data, key)
    if value is None or value == "":
        raise MedsslError("DICOM_TAG_MISSING", f"{key} is absent")
    try:
        numbers = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        raise MedsslError("DICOM_TAG_INVALID", f"{key} does not hold numbers") from None
    if len(numbers) != count:
        raise MedsslError("DICOM_TAG_INVALID", f"{key} does not hold {count} numbers")
    return numbers
