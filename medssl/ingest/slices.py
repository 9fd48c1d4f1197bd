"""The slices of one DICOM file: one, or a frame each, or a tile each."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import MedsslError
from medssl.ingest.attributes import ATTRIBUTES
from medssl.ingest.dicom_pictures import picture_slices
from medssl.ingest.diffusion import B_VALUE_TAGS
from medssl.ingest.headers import Refused, SliceHeader, classic_slice, refuse_pixels
from medssl.ingest.kinds import ENHANCED, PICTURE, PROJECTION, refuse_kind
from medssl.ingest.lean import LeanHeader, read_lean
from medssl.ingest.mosaic import MOSAIC_TAGS, is_mosaic, mosaic_slices
from medssl.ingest.radiograph import radiograph
from medssl.ingest.stated import STATED_TAGS
from medssl.ingest.tags import required, text

if TYPE_CHECKING:
    import pydicom

_PRIVATE = (*STATED_TAGS, *MOSAIC_TAGS, *B_VALUE_TAGS)
_TAGS: list[Any] = [*(tag for tag, _ in ATTRIBUTES.values()), *_PRIVATE]


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
                from medssl.ingest.enhanced import enhanced_slices

                return enhanced_slices(path, data, allow, accepted)
            if text(data, "SOPClassUID") in PROJECTION:
                return [replace(radiograph(path, data, allow, accepted), raw=_raw(data))]
            if text(data, "SOPClassUID") in PICTURE:
                return picture_slices(path, data, accepted)
            one = replace(classic_slice(path, data), defects=accepted, raw=_raw(data))
            return mosaic_slices(one, data) if is_mosaic(data) else [one]
    except MedsslError as error:
        return Refused(path, series_uid, error.code, error.what)


def _raw(data: pydicom.Dataset | LeanHeader) -> tuple[int, int, int] | None:
    """First byte and number of bytes of plain pixels, and their bits allocated."""
    if not isinstance(data, LeanHeader) or data.pixels is None:
        return None
    return *data.pixels, int(required(data, "BitsAllocated"))


def _open(path: Path) -> Any:
    """The header: a LeanHeader of a plain file, else pydicom's data set."""
    try:
        lean = read_lean(path, _PRIVATE)
        if lean is not None:
            return lean
        return _by_pydicom(path)
    except (OSError, EOFError) as error:
        raise MedsslError("FILE_UNREADABLE", f"Not readable: {type(error).__name__}") from None
    except MemoryError:
        raise
    # A hostile or broken header can raise anything inside pydicom; it is that file's rejection.
    except Exception as error:
        raise MedsslError("FILE_UNREADABLE", f"Not parsable: {type(error).__name__}") from None


def _by_pydicom(path: Path) -> Any:
    import pydicom  # takes longer to import than a thousand plain files to read

    return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
