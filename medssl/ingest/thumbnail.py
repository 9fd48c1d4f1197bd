"""A small picture of a series that was refused, where it is safe to show one.

What is refused has not been looked at for text burned into its pixels, which can be a name. So only
images of a scanner are drawn, of refusals that concern their geometry or encoding, and so small
that a line of text is no longer read. For any doubt there is no picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.pixels import pixel_array

from medssl.errors import MedsslError
from medssl.ingest.kinds import CLASSIC, ENHANCED, PROJECTION, refuse_image_type
from medssl.ingest.tags import number, text, words

SIDE = 96
"""Pixels of the longer side."""
_MOST_PIXELS = 4096 * 4096

PICTURED = frozenset(
    {
        "AFFINE_INVALID",
        "DECODE_FAILED",
        "DICOM_TAG_INVALID",
        "DICOM_TAG_MISSING",
        "DUPLICATE_CONFLICT",
        "FILE_TRUNCATED",
        "GANTRY_TILT",
        "LOCALIZER",
        "MOSAIC_UNSUPPORTED",
        "ORIENTATION_INVALID",
        "ORIENTATION_MIXED",
        "SHAPE_MIXED",
        "SLICES_FEWER_THAN_SIBLING",
        "SLICES_FEWER_THAN_STATED",
        "SLICE_DUPLICATE",
        "SLICE_MISSING",
        "SPACING_INVALID",
        "SPACING_UNEVEN",
        "SPACING_UNKNOWN",
        "TIME_SERIES_UNSUPPORTED",
    }
)
"""Codes of refusals that may be pictured. Those that concern identity, burned-in text, screen
captures or colour are not among them, and no code is before someone has thought about it."""


def thumbnail(paths: Sequence[Path]) -> npt.NDArray[np.uint8] | None:
    """Decode the middle one of a refused series' files into a small picture.

    It is meant for a process with limits on time and memory, as everything that decodes.

    Args:
        paths: DICOM files.

    Returns:
        (row, column), at most :data:`SIDE` long, grey from the 1st to the 99th percentile, true to
        the pixel spacing where one is stated; None where the file is no image of a scanner, says
        that text is burned in, or for any failure.
    """
    if not paths:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they can quote values
            data = pydicom.dcmread(paths[len(paths) // 2], force=True)
            return _small(_pixels(data), _ratio(data)) if _is_safe(data) else None
    except (KeyboardInterrupt, SystemExit):
        raise
    # A damaged stream makes the decoders raise whatever they like; a panic in one written in Rust
    # is no Exception.
    except BaseException:
        return None


def _is_safe(data: pydicom.Dataset) -> bool:
    """Whether it is a grey image of a scanner without text in it, as far as the header tells."""
    sop_class, burned = text(data, "SOPClassUID"), text(data, "BurnedInAnnotation").upper()
    if sop_class in PROJECTION:
        if burned != "NO":  # films are often labelled
            return False
    elif sop_class not in CLASSIC and sop_class not in ENHANCED:
        return False
    try:
        refuse_image_type(words(data, "ImageType"), {"LOCALIZER"})
    except MedsslError:
        return False
    rows, columns = number(data, "Rows") or 0.0, number(data, "Columns") or 0.0
    return (
        burned in ("", "NO")
        and number(data, "SamplesPerPixel") == 1
        and 1 <= rows * columns <= _MOST_PIXELS
    )


def _pixels(data: pydicom.Dataset) -> npt.NDArray[np.float64]:
    """The middle frame; bright is high.

    pydicom clears what lies above Bits Stored, so that an overlay there is not drawn.
    """
    frames = int(number(data, "NumberOfFrames") or 1)
    array: npt.NDArray[Any] = pixel_array(data, index=frames // 2)
    if array.ndim != 2:
        raise ValueError("more than one picture")
    inverted = text(data, "PhotometricInterpretation") == "MONOCHROME1"
    return array.astype(np.float64) * (-1 if inverted else 1)


def _ratio(data: pydicom.Dataset) -> float:
    """Height of a pixel over its width; 1 where it is not stated or absurd."""
    spacing = data.get("PixelSpacing") or data.get("ImagerPixelSpacing")
    try:
        rows, columns = (float(v) for v in spacing)
        ratio = rows / columns
    except (TypeError, ValueError, ZeroDivisionError):
        return 1.0
    return ratio if 0.1 <= ratio <= 10 else 1.0


def _small(values: npt.NDArray[np.float64], ratio: float) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(values, [1, 99])
    grey = np.clip((values - low) / ((high - low) or 1.0), 0, 1) * 255
    height, width = values.shape[0] * ratio, float(values.shape[1])
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.rint(grey).astype(np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
