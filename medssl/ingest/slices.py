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
from medssl.ingest.opening import Opening
from medssl.ingest.radiograph import radiograph
from medssl.ingest.stated import STATED_TAGS
from medssl.ingest.tags import required, text

if TYPE_CHECKING:
    import pydicom

PRIVATE = frozenset((*STATED_TAGS, *MOSAIC_TAGS, *B_VALUE_TAGS))
"""Wanted tags of makers."""
_TAGS: list[Any] = [*(tag for tag, _ in ATTRIBUTES.values()), *PRIVATE]


def read_slices(
    path: Path, allow: Collection[str] = (), data: Any = None
) -> list[SliceHeader] | Refused:
    """Read one file's header, up to the pixels. Never raises for what a file holds.

    Args:
        path: the file.
        allow: codes of defects to accept.
        data: what :func:`open_header` says of it, where that was asked before.

    Returns:
        its slices in the order of its frames or tiles, one or more.
    """
    if data is None:
        data = open_header(path)
    if isinstance(data, Refused):
        return data
    series_uid = ""
    try:
        # pydicom's warnings quote values, and values can be a patient's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            series_uid = text(data, "SeriesInstanceUID")
            accepted = refuse_kind(data, allow)
            refuse_pixels(data)
            if text(data, "SOPClassUID") in ENHANCED:
                from medssl.ingest.enhanced import enhanced_slices

                return enhanced_slices(path, data, allow, accepted)
            if text(data, "SOPClassUID") in PROJECTION:
                return [replace(radiograph(path, data, allow, accepted), raw=raw_pixels(data))]
            if text(data, "SOPClassUID") in PICTURE:
                return picture_slices(path, data, accepted)
            one = replace(classic_slice(path, data), defects=accepted, raw=raw_pixels(data))
            return mosaic_slices(one, data) if is_mosaic(data) else [one]
    except MedsslError as error:
        return Refused(path, series_uid, error.code, error.what)


def raw_pixels(data: pydicom.Dataset | LeanHeader) -> tuple[int, int, int] | None:
    """First byte and number of bytes of plain pixels, and their bits allocated."""
    if not isinstance(data, LeanHeader) or data.pixels is None:
        return None
    return *data.pixels, int(required(data, "BitsAllocated"))


def open_header(path: Path, opening: Opening | None = None) -> Any:
    """The header: a LeanHeader of a plain file, else pydicom's data set, or why there is none.

    Args:
        path: the file.
        opening: its first bytes, where they were read before.
    """
    try:
        lean = read_lean(path, PRIVATE, opening)
        return _by_pydicom(path) if lean is None else lean
    except (OSError, EOFError) as error:
        return Refused(path, "", "FILE_UNREADABLE", f"Not readable: {type(error).__name__}")
    except MemoryError:
        raise
    # A hostile or broken header can raise anything inside pydicom; it is that file's rejection.
    except Exception as error:
        return Refused(path, "", "FILE_UNREADABLE", f"Not parsable: {type(error).__name__}")


def _by_pydicom(path: Path) -> pydicom.Dataset:
    import pydicom  # takes longer to import than a thousand plain files to read

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
