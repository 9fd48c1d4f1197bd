"""Headers of plain DICOM files, read without pydicom: a walk over the wanted tags alone.

Most files of a hospital are little-endian, well-formed and ASCII, and parsing every element of them
is most of the time of an ingest. This walk skips from element to element (DICOM PS3.5 section 7.1)
and takes what is wanted. Whatever is in the least unusual makes it give up, and pydicom reads the
file instead: it may be slow, and it must never say anything else. A test compares the two on real
and on damaged files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from struct import Struct, unpack
from typing import Any

from medssl.ingest.attributes import ATTRIBUTES

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
# Explicit little-endian headers as well; their pixels are for the decoders.
_ENCAPSULATED = re.compile(r"1\.2\.840\.10008\.1\.2\.(4\.(50|51|57|70|80|81|90|91|20[1-3])|5)")
_WANTED = dict(ATTRIBUTES.values())
_SEVERAL = frozenset(
    ATTRIBUTES[name][0]
    for name in (
        "ImageType", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
        "ImagerPixelSpacing", "NominalScannedPixelSpacing", "DiffusionGradientOrientation",
    )
) | {0x00431039}  # fmt: skip  # GE's b-value, the first of several
_PIXELS = 0x7FE00010
_CHARACTER_SET = 0x00080005
_CHARACTER_SETS = re.compile(r"(\\?(ISO_IR \d+|ISO 2022 IR \d+|GB18030|GBK)?)*")
# Character sets (PS3.3 C.12.1.1.2) of which one alone applies to all text, as Python knows them.
_ENCODINGS = {"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
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
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_WINDOW = 6144
_DEEPEST = 16
_VALUES: dict[tuple[int, bytes, str, str], Any] = {}
_MOST_VALUES = 20_000

_TAG_VR = Struct("<HH2sH").unpack_from
_TAG_LENGTH = Struct("<HHI").unpack_from
_LENGTH = Struct("<I").unpack_from


class _Unusual(Exception):  # noqa: N818 - it is no error
    """The file is one for pydicom."""


class LeanHeader:
    """The wanted elements of a plain header.

    Attributes:
        media: Media Storage SOP Class UID of the file meta information.
        native: whether the pixels are stored uncompressed, in little-endian order.
        pixels: first byte of the pixels in the file and how many are there, or None.
    """

    __slots__ = ("_values", "media", "native", "pixels")

    def __init__(
        self, values: dict[int, Any], media: str, native: bool, pixels: tuple[int, int] | None
    ) -> None:
        self._values, self.media, self.native, self.pixels = values, media, native, pixels

    def get(self, tag: int) -> Any:
        """The value as pydicom gives it: text, number, or a list of them; None where absent."""
        return self._values.get(tag)


def read_lean(path: Path | str, private: Collection[int] = ()) -> LeanHeader | None:
    """Read the header of a plain file.

    Args:
        path: the file.
        private: wanted tags of makers, beside :data:`medssl.ingest.attributes.ATTRIBUTES`.

    Returns:
        what is wanted of it, or None where the file is anything but plain: pydicom must read it.

    Raises:
        OSError: where it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _Walk(handle).header(frozenset(private))
    except _Unusual:
        return None
    finally:
        os.close(handle)


class _Walk:
    """Goes through one file, a window of it at a time."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._size = os.fstat(handle).st_size
        self._window, self._base = os.pread(handle, _WINDOW, 0), 0
        self._encoding = ""

    def header(self, private: frozenset[int]) -> LeanHeader:
        if self._window[128:132] != b"DICM":
            raise _Unusual
        syntax, media, place = self._meta()
        if syntax == IMPLICIT:
            return self._body(place, private, media, False, True)
        if syntax == EXPLICIT or _ENCAPSULATED.fullmatch(syntax):
            return self._body(place, private, media, True, syntax == EXPLICIT)
        raise _Unusual

    def _meta(self) -> tuple[str, str, int]:
        """Transfer syntax, media storage class and end of the file meta information."""
        syntax, media, place, last = "", "", 132, 0
        while place < self._size and self._implicit(place)[0] >> 16 == 2:
            tag, _, length, start = self._explicit(place)
            if tag <= last or length == _UNDEFINED:
                raise _Unusual
            if tag == 0x00020010:
                syntax = self._text(start, length)
            elif tag == 0x00020002:
                media = self._text(start, length)
            last, place = tag, start + length
        return syntax, media, place

    def _body(
        self, place: int, private: frozenset[int], media: str, explicit: bool, native: bool
    ) -> LeanHeader:
        values: dict[int, Any] = {}
        last, read = 0x0007FFFF, self._explicit if explicit else self._implicit
        while place < self._size:
            tag, vr, length, start = read(place)
            if tag <= last:
                raise _Unusual
            if tag >= _PIXELS:
                if tag != _PIXELS or (length == _UNDEFINED) == native or vr not in ("", "OB", "OW"):
                    raise _Unusual
                found = (start, min(length, self._size - start)) if native else None
                return LeanHeader(values, media, native, found)
            last = tag
            wanted = _WANTED.get(tag)
            if wanted is not None or tag in private:
                if length == _UNDEFINED or (wanted is not None and vr not in ("", wanted)):
                    raise _Unusual
                values[tag] = self._known(tag, wanted or vr, start, length)
            elif tag == _CHARACTER_SET:  # without escapes ASCII is the same in all of them
                stated = self._text(start, length)
                if not _CHARACTER_SETS.fullmatch(stated):
                    raise _Unusual
                self._encoding = _ENCODINGS.get(stated, "")
            elif length == _UNDEFINED:
                if vr not in ("", "SQ"):
                    raise _Unusual
                place = self._after_items(start, explicit, 0)
                continue
            place = start + length
        if place != self._size:
            raise _Unusual
        return LeanHeader(values, media, native, None)

    def _explicit(self, place: int) -> tuple[int, str, int, int]:
        """Tag, VR, length and first byte of the value of the element at a place."""
        at = place - self._base
        if at < 0 or at + 8 > len(self._window):
            at = self._need(place, 8)
        group, element, code, length = _TAG_VR(self._window, at)
        vr = _SHORT.get(code)
        if vr is not None:
            return group << 16 | element, vr, length, place + 8
        vr = _LONG.get(code)
        if vr is None:
            raise _Unusual
        at = self._need(place, 12)
        return group << 16 | element, vr, _LENGTH(self._window, at + 8)[0], place + 12

    def _implicit(self, place: int) -> tuple[int, str, int, int]:
        group, element, length = _TAG_LENGTH(self._window, self._need(place, 8))
        return group << 16 | element, "", length, place + 8

    def _after_items(self, place: int, explicit: bool, depth: int) -> int:
        """Where a sequence of undefined length ends."""
        if depth > _DEEPEST:
            raise _Unusual
        read = self._explicit if explicit else self._implicit
        while True:
            tag, _, length, place = self._implicit(place)
            if tag == _SEQUENCE_END:
                return place
            if tag != _ITEM:
                raise _Unusual
            if length != _UNDEFINED:
                place += length
                continue
            while True:
                tag, _, length, start = self._implicit(place)
                if tag == _ITEM_END:
                    place = start
                    break
                tag, vr, length, start = read(place)
                if length != _UNDEFINED:
                    place = start + length
                elif vr in ("", "SQ"):
                    place = self._after_items(start, explicit, depth + 1)
                else:
                    raise _Unusual

    def _need(self, place: int, count: int) -> int:
        """Have so many bytes from a place in the window; returns the place within it."""
        at = place - self._base
        if at < 0 or at + count > len(self._window):
            self._window = os.pread(self._handle, max(count, _WINDOW), place)
            self._base, at = place, 0
            if len(self._window) < count:
                raise _Unusual
        return at

    def _bytes(self, start: int, length: int) -> bytes:
        if start + length > self._size:
            raise _Unusual
        at = self._need(start, length)
        return self._window[at : at + length]

    def _text(self, start: int, length: int, free: bool = False) -> str:
        """ASCII; text that may be in the file's character set where that is ``free``."""
        raw = self._bytes(start, length)
        if _PRINTABLE.fullmatch(raw):
            return raw.decode("ascii").strip(" \0")
        if not free or not self._encoding or not _NO_CONTROLS.fullmatch(raw):
            raise _Unusual
        try:
            return raw.decode(self._encoding).strip(" \0")
        except UnicodeDecodeError:
            raise _Unusual from None

    def _known(self, tag: int, vr: str, start: int, length: int) -> Any:
        """The value; the slices of a series say most things alike, and are asked one by one."""
        if vr == "OB":
            return self._bytes(start, length)
        key = (tag, self._bytes(start, length), vr, self._encoding)
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
                raise _Unusual
            found = unpack(f"<{count}{code}", self._bytes(start, length))
            return found[0] if count == 1 else list(found)
        if vr == "OB":
            return self._bytes(start, length)
        if vr not in ("AS", "CS", "DA", "DS", "IS", "LO", "SH", "TM", "UI"):
            raise _Unusual
        text = self._text(start, length, vr in ("LO", "SH"))
        if "\\" not in text:
            return _one(vr, text)
        if tag not in _SEVERAL:
            raise _Unusual
        return [_one(vr, part.strip(" ")) for part in text.split("\\")]


def _one(vr: str, text: str) -> Any:
    if vr == "DS" and text:
        if not _DECIMAL.fullmatch(text):
            raise _Unusual
        return float(text)
    if vr == "IS" and text:
        if not _WHOLE.fullmatch(text):
            raise _Unusual
        return int(text)
    return text
