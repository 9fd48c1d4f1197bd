"""What medssl reads of a DICOM slice's header, and what it refuses there."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import MedsslError
from medssl.ingest.diffusion import b_value
from medssl.ingest.facts import Facts, read_facts
from medssl.ingest.geometry import SlicePose
from medssl.ingest.kinds import MODALITIES
from medssl.ingest.stated import stated_counts
from medssl.ingest.tags import joined, number, numbers, required, text, value

if TYPE_CHECKING:
    import pydicom

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
    """What medssl reads of one slice of a CT, MR or PT series, of one radiograph, or of a picture.

    UIDs and PatientID are real ones: they go through :mod:`medssl.ingest.pseudonym` before they are
    written anywhere.

    Attributes:
        pose: of the slice, which may be one frame of its file, or one tile of its picture; that of
            a radiograph or picture has a pixel spacing alone.
        instance: Instance Number of its file.
        marks: what may tell volumes of one series apart, by name, the surest first.
        kind: "classic" (one slice a file), "enhanced" (frames), "mosaic" (tiles), "projection"
            (a radiograph) or "picture" (ultrasound, photographs, captures).
        frame: index of its frame in the file, which has ``frames``.
        stated: numbers of slices or images that the header states, where it does.
        defects: codes that were accepted on request.
        picture: rows and columns of the stored picture.
        tile: first row and column of the slice in the picture.
        inverted: whether low stored values are bright and are turned round, as is done with
            radiographs and pictures alone.
        raw: of plain pixels, uncompressed and little-endian: their first byte in the file, how
            many bytes are there, and bits allocated. None where pydicom must read them.
        tilt: Gantry/Detector Tilt, degrees, where stated.
        channels: 1 grey, 3 colour.
        facts: real values that may be of use beside the image; two files of one image may differ
            in them.
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
    raw: tuple[int, int, int] | None = field(default=None, compare=False)
    tilt: float | None = None
    channels: int = 1
    facts: Facts = field(default=(), compare=False)


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
    if value(data, "ModalityLUTSequence") is not None:
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
    return {
        "sop_uid": uids["SOPInstanceUID"],
        "series_uid": uids["SeriesInstanceUID"],
        "study_uid": text(data, "StudyInstanceUID"),
        "patient_id": text(data, "PatientID"),
        "frame_uid": text(data, "FrameOfReferenceUID"),
        "modality": MODALITIES[sop_class],
        "bits_stored": int(required(data, "BitsStored")),
        "signed": required(data, "PixelRepresentation") == 1,
        "picture": (int(required(data, "Rows")), int(required(data, "Columns"))),
        "instance": instance_number(data),
        "facts": read_facts(data),
    }


def instance_number(data: pydicom.Dataset) -> int | None:
    """Instance Number, None where there is none.

    Raises:
        MedsslError: DICOM_TAG_INVALID.
    """
    found = number(data, "InstanceNumber")
    return int(found) if found is not None and math.isfinite(found) else None


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
    marks = tuple(
        (name, b_value(data) if name == "b_value" else joined(data, key))
        for name, key in MARKS.items()
    )
    return SliceHeader(
        path=path,
        pose=pose,
        slope=slope,
        intercept=intercept,
        thickness=number(data, "SliceThickness"),
        declared_spacing=number(data, "SpacingBetweenSlices"),
        marks=marks,
        stated=stated_counts(data),
        tilt=number(data, "GantryDetectorTilt"),
        **fields,
    )
