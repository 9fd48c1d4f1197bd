"""Pictures: ultrasound, photographs and, where allowed, secondary captures, grey or in colour.

Each picture, and each frame of a clip, is a 2D image of its own. Most state no pixel spacing, and
what they teach does not hang on it, so they are taken with pixels of 1 mm, and the defect
SPACING_UNKNOWN says so. Of ultrasound the calibrated region counts, where the whole picture has one
scale.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.errors import MedsslError
from medssl.ingest.geometry import SlicePose
from medssl.ingest.headers import SliceHeader, file_fields
from medssl.ingest.radiograph import SPACINGS
from medssl.ingest.tags import items, number, numbers, text, value

if TYPE_CHECKING:
    import pydicom

MOST_FRAMES = 10_000
"""A clip of more is taken for a damaged header."""
_TWO_DIMENSIONAL, _CENTIMETRES = 1, 3  # PS3.3 C.8.5.5.1.1 and C.8.5.5.1.15
_SAME_SCALE = 1e-3


def picture_slices(
    path: Path, data: pydicom.Dataset, accepted: tuple[str, ...] = ()
) -> list[SliceHeader]:
    """One header for every frame.

    Args:
        path: the file.
        data: its header.
        accepted: codes accepted of the file so far.

    Raises:
        MedsslError: DICOM_TAG_MISSING, DICOM_TAG_INVALID, PIXEL_FORMAT_UNSUPPORTED,
            SPACING_INVALID.
    """
    fields = file_fields(data)
    frames = number(data, "NumberOfFrames")
    count = 1 if frames is None else int(frames) if 1 <= frames <= MOST_FRAMES else 0
    if not count:
        raise MedsslError("DICOM_TAG_INVALID", "The number of frames cannot be right")
    colour = number(data, "SamplesPerPixel") == 3
    palette = text(data, "PhotometricInterpretation") == "PALETTE COLOR"
    if colour and (fields["bits_stored"], fields["signed"]) != (8, False):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "Colours of other than 8 bits")
    if palette and (fields["bits_stored"] > 16 or fields["signed"]):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "A palette of more than 65536 colours")
    slope, intercept = number(data, "RescaleSlope"), number(data, "RescaleIntercept")
    if slope not in (None, 1) or intercept not in (None, 0):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "A picture whose values are rescaled")
    spacing = picture_spacing(data)
    defects = accepted if spacing else tuple(sorted({*accepted, "SPACING_UNKNOWN"}))
    first = SliceHeader(
        path=path,
        pose=SlicePose((), (), spacing or (1.0, 1.0), fields["picture"]),
        slope=1.0,
        intercept=0.0,
        thickness=None,
        declared_spacing=None,
        marks=(),
        kind="picture",
        frames=count,
        channels=3 if colour or palette else 1,
        defects=defects,
        inverted=text(data, "PhotometricInterpretation") == "MONOCHROME1",
        **fields,
    )
    return [replace(first, frame=index) for index in range(count)]


def picture_spacing(data: pydicom.Dataset) -> tuple[float, float] | None:
    """Distance between rows, then between columns, mm; None where none is certain.

    Ultrasound states centimetres a pixel for each region (Physical Delta X and Y, PS3.3 C.8.5.5).
    They count where every region is a 2D one in centimetres and all have one scale: a picture with
    a Doppler or an M-mode trace in it has no one spacing.

    Raises:
        MedsslError: DICOM_TAG_INVALID, SPACING_INVALID.
    """
    regions = items(data, "SequenceOfUltrasoundRegions")
    if regions:
        scales = [_scale(region) for region in regions]
        first = scales[0]
        if first is None or any(s is None or not _alike(s, first) for s in scales):
            return None
        return first
    stated = [key for key in SPACINGS if value(data, key) not in (None, "")]
    if not stated:
        return None
    rows, columns = numbers(data, stated[0], 2)
    return rows, columns


def _scale(region: pydicom.Dataset) -> tuple[float, float] | None:
    """Millimetres between rows and between columns in a 2D region, else None."""
    units = (number(region, key) for key in ("PhysicalUnitsXDirection", "PhysicalUnitsYDirection"))
    if number(region, "RegionSpatialFormat") != _TWO_DIMENSIONAL or set(units) != {_CENTIMETRES}:
        return None
    across, down = number(region, "PhysicalDeltaX"), number(region, "PhysicalDeltaY")
    # Negative where the axis of the region runs against that of the picture.
    return (10 * abs(down), 10 * abs(across)) if across and down else None


def _alike(one: tuple[float, float], two: tuple[float, float]) -> bool:
    return all(abs(a - b) <= _SAME_SCALE * b for a, b in zip(one, two, strict=True))
