"""The b-value of a diffusion-weighted slice, from the standard's tag or its maker's own.

Classic MR images have no standard place for it; makers write it into private blocks, which count
only where the element that names the block says whose they are (DICOM PS3.5 section 7.8.1). The
places are those of the makers' conformance statements, as collected by dcm2niix.
"""

from __future__ import annotations

import math
import struct
from collections.abc import MutableSequence
from typing import TYPE_CHECKING

from medssl.errors import MedsslError
from medssl.ingest.tags import joined, text, value

if TYPE_CHECKING:
    import pydicom

# creator element: (its value, b-value element)
_PRIVATE = {
    0x00190010: ("SIEMENS MR HEADER", 0x0019100C),
    0x00430010: ("GEMS_PARM_01", 0x00431039),
    0x20010010: ("Philips Imaging DD 001", 0x20011003),
}
B_VALUE_TAGS = (*_PRIVATE, *(key for _, key in _PRIVATE.values()))
_GE_BIAS = 1_000_000_000  # GE adds it to the b-values of series that have several


def b_value(data: pydicom.Dataset) -> str:
    """The b-value in s/mm2 as text, "" where none is stated; equal texts mean equal values.

    A private element that holds no such number does not count: nothing obliges it to.

    Raises:
        MedsslError: DICOM_TAG_INVALID where the standard's tag cannot be read.
    """
    public = joined(data, "DiffusionBValue")
    if public:
        return public
    for creator, (name, key) in _PRIVATE.items():
        found = _first(data, key, name) if text(data, creator) == name else None
        if found is not None and math.isfinite(found) and found >= 0:
            biased = name.startswith("GEMS") and found >= _GE_BIAS
            return str(round(found - _GE_BIAS if biased else found, 3))
    return ""


def _first(data: pydicom.Dataset, key: int, creator: str) -> float | None:
    """The first number of a private element, which can be untyped bytes."""
    try:
        found = value(data, key)
        if isinstance(found, bytes) and creator.startswith("Philips"):
            return float(struct.unpack("<f", found)[0])
        if isinstance(found, bytes):
            found = found.decode("ascii").strip(" \0").split("\\")
        return float(found[0] if isinstance(found, MutableSequence) else found)
    except (MedsslError, TypeError, ValueError, IndexError, struct.error):
        return None
