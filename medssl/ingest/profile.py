"""What becomes of each DICOM attribute that ingest reads, and how that is recorded.

A store is a whitelist: an attribute that is not in :data:`READ` is never looked at, and what is
looked at ends as :data:`READ` says. A test compares the table with the code, and
``docs/reference/deidentification.md`` is made from it.

Profile and options: DICOM PS3.15 Annex E; their codes: PS3.16 CID 7050.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Any


class Fate(StrEnum):
    """What becomes of an attribute."""

    USED = "used, not kept"  # decides how the image is read or refused; leaves no value
    GEOMETRY = "kept in the grid"  # shape, spacing and affine are made of it
    VOXELS = "kept in the voxels"
    KEPT = "kept"  # a code or a number
    CLEANED = "cleaned"  # only words of fixed lists
    PSEUDONYM = "pseudonym"
    SHIFTED = "shifted"
    ON_REQUEST = "kept on request"


@dataclass(frozen=True)
class Attribute:
    """An attribute that is read.

    Attributes:
        key: its keyword, or its tag where it is private.
        fate: what becomes of it.
        column: of the manifest, or "".
        note: more about it.
    """

    key: str
    fate: Fate
    column: str = ""
    note: str = ""


def _rows(fate: Fate, keys: str, column: str = "", note: str = "") -> tuple[Attribute, ...]:
    return tuple(Attribute(key, fate, column, note) for key in keys.split())


READ: tuple[Attribute, ...] = (
    *_rows(Fate.PSEUDONYM, "PatientID", "subject_id"),
    *_rows(Fate.PSEUDONYM, "StudyInstanceUID", "study_id"),
    *_rows(Fate.PSEUDONYM, "SeriesInstanceUID", "series_id, volume_id"),
    *_rows(Fate.PSEUDONYM, "FrameOfReferenceUID", "frame_id"),
    *_rows(Fate.PSEUDONYM, "DeviceSerialNumber", "scanner"),
    *_rows(Fate.PSEUDONYM, "StationName", "scanner", "where there is no serial number"),
    *_rows(Fate.PSEUDONYM, "InstitutionName", "site", "`--site NAME` states a name instead"),
    *_rows(Fate.SHIFTED, "StudyDate", "study_date", "1 to 3650 days back, the same for a subject"),
    *_rows(Fate.CLEANED, "Manufacturer", "manufacturer", "a known maker, or `other`"),
    *_rows(Fate.CLEANED, "ManufacturerModelName", "model", "known words and short codes"),
    *_rows(Fate.CLEANED, "BodyPartExamined", "body_part", "a Defined Term of PS3.16 Annex L"),
    *_rows(Fate.CLEANED, "SeriesDescription", "description", "known words"),
    *_rows(Fate.ON_REQUEST, "PatientAge", "label:age", "`--keep age`: years; 90 and over as 90"),
    *_rows(Fate.ON_REQUEST, "PatientSex", "label:sex", "`--keep sex`: F, M or O"),
    *_rows(Fate.KEPT, "SOPClassUID", "modality", "as CT, MR, PT, CR, DX, MG"),
    *_rows(Fate.KEPT, "EchoTime EffectiveEchoTime InversionTime DiffusionBValue", "part",
           "a number, where it tells volumes of a series apart"),
    *_rows(Fate.GEOMETRY, "Rows Columns NumberOfFrames", "shape"),
    *_rows(Fate.GEOMETRY, "PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing",
           "spacing, affine"),
    *_rows(Fate.GEOMETRY, "ImageOrientationPatient ImagePositionPatient", "affine"),
    *_rows(Fate.GEOMETRY, "SpacingBetweenSlices SliceThickness", "affine", "checks; of a mosaic"),
    *_rows(Fate.VOXELS, "PixelData RescaleSlope RescaleIntercept", "array"),
    *_rows(Fate.USED,
           "TransferSyntaxUID SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored "
           "HighBit PixelRepresentation RescaleType ModalityLUTSequence", "",
           "how pixels are stored"),
    *_rows(Fate.USED,
           "MediaStorageSOPClassUID Modality ImageType FrameType ComplexImageComponent "
           "GantryDetectorTilt BurnedInAnnotation", "", "what is refused"),
    *_rows(Fate.USED, "SpecificCharacterSet", "", "how texts are encoded"),
    *_rows(Fate.USED, "SOPInstanceUID", "", "what is a duplicate or a mixture"),
    *_rows(Fate.USED,
           "AcquisitionDate AcquisitionTime FrameAcquisitionDateTime AcquisitionNumber "
           "FrameAcquisitionNumber InstanceNumber TemporalPositionIdentifier TemporalPositionIndex "
           "TriggerTime StackID InStackPositionNumber DiffusionGradientOrientation "
           "DimensionIndexValues DimensionIndexPointer", "part",
           "tell volumes of a series apart; at most a rank such as 3/151 is kept"),
    *_rows(Fate.USED,
           "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence "
           "DimensionIndexSequence MRImageFrameTypeSequence CTImageFrameTypeSequence "
           "PETFrameTypeSequence MREchoSequence MRDiffusionSequence "
           "DiffusionGradientDirectionSequence FrameContentSequence PlanePositionSequence "
           "PlaneOrientationSequence PixelMeasuresSequence PixelValueTransformationSequence", "",
           "of enhanced images: only what this table names"),
    *_rows(Fate.CLEANED, "SegmentLabel ROIName", "label_array",
           "in `store.json` too: a plain name without long numbers or words of persons"),
    *_rows(Fate.USED,
           "PatientName OtherPatientNames OtherPatientIDs PatientBirthName "
           "PatientMotherBirthName AccessionNumber ReferringPhysicianName PhysiciansOfRecord "
           "PerformingPhysicianName NameOfPhysiciansReadingStudy OperatorsName ReviewerName "
           "ContentCreatorName", "", "of label objects: no structure may be named after them"),
    *_rows(Fate.VOXELS,
           "SegmentSequence SegmentNumber SegmentationType MaximumFractionalValue "
           "PixelPaddingValue SegmentIdentificationSequence ReferencedSegmentNumber "
           "StructureSetROISequence ROINumber ROIContourSequence ReferencedROINumber "
           "ContourSequence ContourData "
           "ContourGeometricType ContourOffsetVector NumberOfContourPoints", "label_array",
           "where structures lie"),
    *_rows(Fate.USED,
           "ReferencedSeriesSequence ReferencedInstanceSequence ReferencedSOPInstanceUID "
           "ReferencedFrameNumber ReferencedFrameOfReferenceSequence "
           "ReferencedFrameOfReferenceUID RTReferencedStudySequence RTReferencedSeriesSequence "
           "ContourImageSequence DerivationImageSequence SourceImageSequence", "",
           "of label objects: which image they were drawn on"),
    *_rows(Fate.USED, "ImagesInAcquisition NumberOfSlices", "", "whether slices are missing"),
    *_rows(Fate.USED, "(0021,0010) (0021,104F) (2001,0010) (2001,1018)", "",
           "private, GE and Philips: whether slices are missing"),
    *_rows(Fate.USED, "(0019,0010) (0019,100A) (0029,0010) (0029,1010)", "",
           "private, Siemens: number and direction of the slices of a mosaic"),
    *_rows(Fate.KEPT, "(0019,100C) (0043,0010) (0043,1039) (2001,1003)", "part",
           "private, Siemens, GE and Philips: the b-value"),
    *_rows(Fate.USED, "CTAcquisitionDetailsSequence", "", "the tilt of enhanced CT"),
    *_rows(Fate.USED, "PixelPresentation", "", "whether colours are laid over grey"),
    *_rows(Fate.GEOMETRY,
           "SequenceOfUltrasoundRegions RegionSpatialFormat PhysicalUnitsXDirection "
           "PhysicalUnitsYDirection PhysicalDeltaX PhysicalDeltaY", "spacing", "of ultrasound"),
)  # fmt: skip
"""Every attribute that ingest reads; all others are removed unread."""

PROFILE = "113100"
OPTIONS: dict[str, str] = {
    PROFILE: "Basic Application Confidentiality Profile",
    "113102": "Clean Recognizable Visual Features Option",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
"""The profile and those of its options that medssl can apply; code of DCM -> meaning."""
_ALWAYS = (PROFILE, "113105", "113107")
_NOT_APPLIED = (
    ("Clean Pixel Data", "Images that seem to hold text are refused, not cleaned."),
    ("Clean Graphics, Clean Structured Content", "Graphics and reports are not kept at all."),
    ("Retain UIDs", "UIDs become pseudonyms."),
    ("Retain Device Identity, Retain Institution Identity", "Both become pseudonyms."),
    ("Retain Safe Private", "Some private attributes are read for the geometry; none is kept."),
)


def deidentification(
    keep: Collection[str] = (), *, burned_in: bool = False, faces_removed: bool = False
) -> dict[str, Any]:
    """The record of the de-identification, for ``store.json``.

    Args:
        keep: patient characteristics that the user asked to keep.
        burned_in: whether images that seem to hold text were accepted.
        faces_removed: whether faces were removed from all images that could show one.

    Returns:
        ``identity_removed``, ``method``, ``codes`` and ``longitudinal_temporal_information``: what
        Patient Identity Removed (0012,0062), De-identification Method (0012,0063), its Code
        Sequence (0012,0064) and Longitudinal Temporal Information Modified (0028,0303) say; and
        ``kept``: what was kept on request. Identity Removed speaks of the pixels too, so it is "NO"
        with ``burned_in``.
    """
    codes = [*_ALWAYS, *(["113102"] if faces_removed else []), *(["113108"] if keep else [])]
    kept = f"; kept on request: {', '.join(sorted(keep))}" if keep else ""
    return {
        "identity_removed": "NO" if burned_in else "YES",
        "method": f"medssl {version('medssl')}: whitelist of attributes, keyed pseudonyms, "
        f"dates shifted by subject{kept}",
        "codes": [
            {"value": code, "scheme": "DCM", "meaning": OPTIONS[code]} for code in sorted(codes)
        ],
        "longitudinal_temporal_information": "MODIFIED",
        "kept": sorted(keep),
    }


def tables() -> list[str]:
    """Markdown: the options that are applied and not, and what becomes of each attribute."""
    lines = ["| code (DCM) | applied | meaning |", "|---|---|---|"]
    when = {"113102": "where all faces were removed", "113108": "with `--keep`"}
    lines += [f"| {c} | {when.get(c, 'always')} | {m} |" for c, m in OPTIONS.items()]
    lines += ["", "| option not claimed | because |", "|---|---|"]
    lines += [f"| {name} | {why} |" for name, why in _NOT_APPLIED]
    lines += ["", "| attribute read | fate | column | note |", "|---|---|---|---|"]
    for row in READ:
        names = ", ".join(f"`{part}`" for part in row.column.split(", ")) if row.column else ""
        lines.append(f"| {row.key} | {row.fate.value} | {names} | {row.note} |")
    return lines
