"""From element to element of a plain DICOM file, and the values of those that are wanted.

DICOM PS3.5 section 7.1. See :mod:`medssl.ingest.lean`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from struct import Struct, unpack
from typing import Any

from medssl.ingest.attributes import ATTRIBUTES
from medssl.ingest.opening import Opening

_WANTED = dict(ATTRIBUTES.values())
_SEVERAL = frozenset(
    ATTRIBUTES[name][0]
    for name in (
        "ImageType", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
        "ImagerPixelSpacing", "NominalScannedPixelSpacing", "DiffusionGradientOrientation",
    )
) | {0x00431039}  # fmt: skip  # GE's b-value, the first of several
_SHORT = {
    vr.encode(): vr
    for vr in (
        "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL",
        "SS", "ST", "TM", "UI", "UL", "US",
    )
}  # fmt: skip
_LONG = {
    vr.encode(): vr
    for vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
}
_NUMBERS = {"US": (2, "H"), "UL": (4, "I"), "SS": (2, "h"), "SL": (4, "i"), "FL": (4, "f"),
            "FD": (8, "d")}  # fmt: skip
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_PRINTABLE = re.compile(rb"[ -~]*\x00*")
_NO_CONTROLS = re.compile(rb"[ -~\x80-\xff]*\x00*")
UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_WINDOW = 6144
_DEEPEST = 16
_VALUES: dict[tuple[int, bytes, str, str], Any] = {}
_MOST_VALUES = 20_000

_TAG_VR = Struct("<HH2sH").unpack_from
_TAG_LENGTH = Struct("<HHI").unpack_from
_LENGTH = Struct("<I").unpack_from


class Unusual(Exception):  # noqa: N818 - it is no error
    """The file is one for pydicom."""


class Walk:
    """Goes through one file, a window of it at a time.

    Attributes:
        size: of the file.
        window: its bytes from ``base`` on.
        values: of the wanted elements that were met. What is the same bytes is the same object.
        places: tag and place of the elements gone through, for the user of the walk.
        explicit: whether elements state their value representation.
        encoding: of text that is not ASCII, "" where none is known.

    Every method raises Unusual where there is not what belongs there.
    """

    def __init__(self, path: Path | str, opening: Opening, private: frozenset[int]) -> None:
        self._path, self._handle, self._private = path, -1, private
        self._opening, self.size = opening
        self.restart()

    def restart(self) -> None:
        """Be at the beginning again, with nothing taken."""
        self.window, self.base = self._opening, 0
        self.values: dict[int, Any] = {}
        self.places: list[tuple[int, int]] = []
        self.explicit, self.encoding = True, ""

    def close(self) -> None:
        """To be called at the end."""
        if self._handle >= 0:
            os.close(self._handle)

    def element(self, place: int) -> tuple[int, str, int, int]:
        """Tag, VR ("" where none is stated), length and first byte of the element at a place."""
        return self.explicit_element(place) if self.explicit else self.implicit_element(place)

    def take(self, tag: int, vr: str, length: int, start: int) -> int:
        """Note the value of an element if it is wanted; returns where the element ends."""
        wanted = _WANTED.get(tag)
        if wanted is not None or tag in self._private:
            if length == UNDEFINED or (wanted is not None and vr not in ("", wanted)):
                raise Unusual
            self.values[tag] = self._known(tag, wanted or vr, start, length)
        elif length == UNDEFINED:
            if vr not in ("", "SQ"):
                raise Unusual
            return self._after_items(start, 0)
        return start + length

    def explicit_element(self, place: int) -> tuple[int, str, int, int]:
        """As :meth:`element`, of one that states its VR."""
        at = place - self.base
        if at < 0 or at + 8 > len(self.window):
            at = self._need(place, 8)
        group, element, code, length = _TAG_VR(self.window, at)
        vr = _SHORT.get(code)
        if vr is not None:
            return group << 16 | element, vr, length, place + 8
        vr = _LONG.get(code)
        if vr is None:
            raise Unusual
        at = self._need(place, 12)
        return group << 16 | element, vr, _LENGTH(self.window, at + 8)[0], place + 12

    def implicit_element(self, place: int) -> tuple[int, str, int, int]:
        """As :meth:`element`, of one that does not."""
        group, element, length = _TAG_LENGTH(self.window, self._need(place, 8))
        return group << 16 | element, "", length, place + 8

    def _after_items(self, place: int, depth: int) -> int:
        """Where a sequence of undefined length ends."""
        if depth > _DEEPEST:
            raise Unusual
        while True:
            tag, _, length, place = self.implicit_element(place)
            if tag == _SEQUENCE_END:
                return place
            if tag != _ITEM:
                raise Unusual
            if length != UNDEFINED:
                place += length
                continue
            while True:
                tag, _, length, start = self.implicit_element(place)
                if tag == _ITEM_END:
                    place = start
                    break
                tag, vr, length, start = self.element(place)
                if length != UNDEFINED:
                    place = start + length
                elif vr in ("", "SQ"):
                    place = self._after_items(start, depth + 1)
                else:
                    raise Unusual

    def _need(self, place: int, count: int) -> int:
        """Have so many bytes from a place in the window; returns the place within it."""
        at = place - self.base
        if at < 0 or at + count > len(self.window):
            if self._handle < 0:
                self._handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self.window = os.pread(self._handle, max(count, _WINDOW), place)
            self.base, at = place, 0
            if len(self.window) < count:
                raise Unusual
        return at

    def _bytes(self, start: int, length: int) -> bytes:
        if start + length > self.size:
            raise Unusual
        at = self._need(start, length)
        return self.window[at : at + length]

    def text(self, start: int, length: int, free: bool = False) -> str:
        """ASCII; text that may be in the file's character set where that is ``free``."""
        raw = self._bytes(start, length)
        if _PRINTABLE.fullmatch(raw):
            return raw.decode("ascii").strip(" \0")
        if not free or not self.encoding or not _NO_CONTROLS.fullmatch(raw):
            raise Unusual
        try:
            return raw.decode(self.encoding).strip(" \0")
        except UnicodeDecodeError:
            raise Unusual from None

    def _known(self, tag: int, vr: str, start: int, length: int) -> Any:
        """The value; the slices of a series say most things alike, and are asked one by one."""
        if vr == "OB":
            return self._bytes(start, length)
        key = (tag, self._bytes(start, length), vr, self.encoding)
        if key not in _VALUES:
            if len(_VALUES) >= _MOST_VALUES:
                _VALUES.clear()
            _VALUES[key] = self._value(tag, vr, start, length)
        return _VALUES[key]

    def _value(self, tag: int, vr: str, start: int, length: int) -> Any:
        if vr in _NUMBERS:
            size, code = _NUMBERS[vr]
            count = length // size
            if length % size or (count != 1 and tag not in _SEVERAL):
                raise Unusual
            found = unpack(f"<{count}{code}", self._bytes(start, length))
            return found[0] if count == 1 else list(found)
        if vr == "OB":
            return self._bytes(start, length)
        if vr not in ("AS", "CS", "DA", "DS", "IS", "LO", "SH", "TM", "UI"):
            raise Unusual
        text = self.text(start, length, vr in ("LO", "SH"))
        if "\\" not in text:
            return _one(vr, text)
        if tag not in _SEVERAL:
            raise Unusual
        return [_one(vr, part.strip(" ")) for part in text.split("\\")]


def _one(vr: str, text: str) -> Any:
    if vr == "DS" and text:
        if not _DECIMAL.fullmatch(text):
            raise Unusual
        return float(text)
    if vr == "IS" and text:
        if not _WHOLE.fullmatch(text):
            raise Unusual
        return int(text)
    return text
