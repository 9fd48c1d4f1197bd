"""What kind of DICOM object a file holds: read, kept out unless allowed, no image, or refused.

The class is told by SOP Class UID (DICOM PS3.4 B.5), never by Modality, which screens and reports
made from a scan share with it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from medssl.errors import MedsslError
from medssl.ingest.lean import LeanHeader
from medssl.ingest.tags import number, text, words

if TYPE_CHECKING:
    import pydicom

_STORAGE = "1.2.840.10008.5.1.4.1.1."
DICOMDIR = "1.2.840.10008.1.3.10"


def _classes(**by_modality: str) -> dict[str, str]:
    """The ends of SOP Class UIDs by modality -> UID: modality."""
    pairs = ((end, name) for name, ends in by_modality.items() for end in ends.split())
    return {_STORAGE + end: name for end, name in pairs}


CLASSIC = _classes(CT="2", MR="4", PT="128")
ENHANCED = _classes(CT="2.1 2.2", MR="4.1 4.4", PT="128.1 130")  # 2.2, 4.4, 128.1: Legacy Converted
PROJECTION = _classes(CR="1", DX="1.1 1.1.1", MG="1.2 1.2.1")
# Secondary captures are OT whatever their Modality says: the screen of a CT holds no HU.
CAPTURE = _classes(OT="7 7.2 7.3 7.4")
PICTURE = CAPTURE | _classes(
    US="3 3.1 6 6.1",
    ES="77.1.1 77.1.1.1",
    GM="77.1.2 77.1.2.1",
    SM="77.1.3",
    XC="77.1.4 77.1.4.1",
    OP="77.1.5.1 77.1.5.2",
    DMS="77.1.7",
)
MODALITIES = CLASSIC | ENHANCED | PROJECTION | PICTURE
LABEL_CLASSES = {
    _STORAGE + "66.4": "seg",  # Segmentation
    _STORAGE + "66.7": "seg",  # Label Map Segmentation
    _STORAGE + "481.3": "rtstruct",
}
_SEVERAL_FRAMES = ENHANCED | PICTURE

# Objects that hold no image: what a SOP Class UID starts with, the first that fits.
_DOCUMENTS = {
    "88.59": "A key object selection",
    "88.67": "A radiation dose report",
    "88.68": "A radiation dose report",
    "88.73": "A radiation dose report",
    "88.76": "A radiation dose report",
    "88": "A structured report",
    "11": "A presentation state",
    "9": "A waveform",
    "104": "An encapsulated document",
    "66.1": "A spatial registration",
    "66.2": "A set of fiducials",
    "66.3": "A spatial registration",
    "66": "Raw data",
    "67": "A mapping of values",
    "4.2": "A spectrum",
    "78": "A measurement of the eye",
    "79": "A report on the eye",
    "80": "A measurement of the eye",
    "200": "A protocol",
}
_WITH_VOXELS = ("66.5", "66.6")  # surfaces and tracts are no raw data
# Third and later values of Image Type (PS3.3 C.7.6.1.1.2) of images that are no acquired slices.
_IMAGE_TYPES = {
    "LOCALIZER": ("LOCALIZER", "A localizer"),
    "SCOUT": ("LOCALIZER", "A localizer"),
    "PROJECTION IMAGE": ("DERIVED", "A projection"),
    "MIP": ("DERIVED", "A projection"),
    "MINIP": ("DERIVED", "A projection"),
    "MIN IP": ("DERIVED", "A projection"),
    "SCREEN SAVE": ("DERIVED", "A saved screen"),
    "SCREENSHOT": ("DERIVED", "A saved screen"),
    "DOSE_INFO": ("DERIVED", "A page of dose information"),
}
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")


def refuse_kind(data: pydicom.Dataset, allow: Collection[str] = ()) -> tuple[str, ...]:
    """Raise for what is no image that medssl reads.

    Args:
        data: the header.
        allow: LOCALIZER or DERIVED, to accept such images.

    Returns:
        the codes that were accepted.

    Raises:
        MedsslError: NOT_AN_IMAGE, FILE_UNREADABLE, LABEL_WITHOUT_IMAGE (a label object, to be
            matched with an image), MODALITY_UNSUPPORTED, COLOUR_UNSUPPORTED, DERIVED, LOCALIZER,
            DICOM_TAG_INVALID.
    """
    sop_class = text(data, "SOPClassUID")
    if _media(data) == DICOMDIR:
        raise MedsslError("NOT_AN_IMAGE", "A DICOMDIR, which only lists other files")
    if not sop_class and not text(data, "SOPInstanceUID"):
        raise MedsslError("FILE_UNREADABLE", "The header holds no DICOM object")
    if sop_class in LABEL_CLASSES:
        raise MedsslError("LABEL_WITHOUT_IMAGE", "A label object, which holds no image")
    rows = number(data, "Rows")
    document = _document(sop_class)
    if document and rows is None:
        raise MedsslError("NOT_AN_IMAGE", document)
    if rows is None:
        raise MedsslError("MODALITY_UNSUPPORTED", f"A DICOM object without pixels{_named(data)}")
    if sop_class not in MODALITIES:
        raise MedsslError("MODALITY_UNSUPPORTED", f"A kind of image not read yet{_named(data)}")
    frames = number(data, "NumberOfFrames")
    if sop_class not in _SEVERAL_FRAMES and frames is not None and frames != 1:
        raise MedsslError("MODALITY_UNSUPPORTED", "Several frames in an image of one frame")
    _refuse_colour(data, sop_class in PICTURE)
    accepted = set(refuse_image_type(words(data, "ImageType"), allow))
    if sop_class in CAPTURE:
        if "DERIVED" not in allow:
            raise MedsslError("DERIVED", "A secondary capture")
        accepted.add("DERIVED")
    return tuple(sorted(accepted))


def refuse_image_type(image_type: list[str], allow: Collection[str] = ()) -> tuple[str, ...]:
    """Raise for an Image Type or Frame Type of what is no acquired slice.

    Returns:
        the codes of ``allow`` that were needed.

    Raises:
        MedsslError: LOCALIZER, DERIVED.
    """
    found = [_IMAGE_TYPES[word] for word in image_type if word in _IMAGE_TYPES]
    for code, what in found:
        if code not in allow:
            raise MedsslError(code, f"{what}, Image Type says")
    return tuple(sorted({code for code, _ in found}))


def _media(data: pydicom.Dataset | LeanHeader) -> str:
    if isinstance(data, LeanHeader):
        return data.media
    meta = getattr(data, "file_meta", None)
    return "" if meta is None else text(meta, "MediaStorageSOPClassUID")


def _refuse_colour(data: pydicom.Dataset, picture: bool) -> None:
    """Pictures may be in colour, and slices and radiographs are grey."""
    samples, photometric = number(data, "SamplesPerPixel"), text(data, "PhotometricInterpretation")
    if samples == 1 and photometric in _GREY:
        # Some grey values are then indices of colours (PS3.3 C.8.16.2.1.1).
        if text(data, "PixelPresentation") in ("COLOR", "MIXED"):
            raise MedsslError("COLOUR_UNSUPPORTED", "A grey image with colours laid over it")
        return
    if not picture:
        raise MedsslError("COLOUR_UNSUPPORTED", "Not a grey image")
    if not (samples == 3 and photometric in _COLOUR) and not (
        samples == 1 and photometric == "PALETTE COLOR"
    ):
        raise MedsslError("COLOUR_UNSUPPORTED", "A way to store colours that is not read yet")


def _document(sop_class: str) -> str:
    """What an object without image is, "" where it may be one."""
    end = sop_class.removeprefix(_STORAGE)
    if end == sop_class or end.startswith(_WITH_VOXELS):
        return ""
    fits = (what for start, what in _DOCUMENTS.items() if f"{end}.".startswith(f"{start}."))
    return next(fits, "")


def _named(data: pydicom.Dataset) -> str:
    """The standard's name of the SOP class, where it has one."""
    from pydicom.uid import UID

    uid = UID(text(data, "SOPClassUID"))
    return f": {uid.name}" if uid.name and uid.name != uid else ""
