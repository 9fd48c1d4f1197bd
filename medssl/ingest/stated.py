"""How many slices a header says there should be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medssl.ingest.tags import number, text

if TYPE_CHECKING:
    import pydicom

_PUBLIC = (0x00201002, 0x00540081)  # Images in Acquisition, Number of Slices
# The same in makers' private blocks, by the element that names the block.
_PRIVATE = {
    0x0021104F: (0x00210010, "GEMS_RELA_01"),
    0x20011018: (0x20010010, "Philips Imaging DD 001"),
}
STATED_TAGS = (*_PUBLIC, *_PRIVATE, *(creator for creator, _ in _PRIVATE.values()))


def stated_counts(data: pydicom.Dataset) -> tuple[int, ...]:
    """Every number that is stated and finite; none where there is none.

    Raises:
        MedsslError: DICOM_TAG_INVALID.
    """
    private = [key for key, (creator, name) in _PRIVATE.items() if text(data, creator) == name]
    counts = (number(data, key) for key in (*_PUBLIC, *private))
    return tuple(int(count) for count in counts if count and math.isfinite(count))
