"""Headers of plain DICOM files, read without pydicom: a walk over the wanted tags alone.

Most files of a hospital are little-endian, well-formed and ASCII, and parsing every element of them
is most of the time of an ingest. This walk skips from element to element and takes what is wanted,
and what a file has alike with those before it is not walked over again. Whatever is in the least
unusual makes it give up, and pydicom reads the file instead: it may be slow, and it must never say
anything else. A test compares the two on real and on damaged files.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from medssl.ingest.layout import Layout
from medssl.ingest.opening import Opening, read_opening
from medssl.ingest.walk import UNDEFINED, Unusual, Walk

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
# Explicit little-endian headers as well; their pixels are for the decoders.
_ENCAPSULATED = re.compile(r"1\.2\.840\.10008\.1\.2\.(4\.(50|51|57|70|80|81|90|91|20[1-3])|5)")
_META = 132  # where the file meta information begins
_MEDIA, _SYNTAX = 0x00020002, 0x00020010
_CHARACTER_SET, _PIXELS = 0x00080005, 0x7FE00010
_CHARACTER_SETS = re.compile(r"(\\?(ISO_IR \d+|ISO 2022 IR \d+|GB18030|GBK)?)*")
# Character sets (PS3.3 C.12.1.1.2) of which one alone applies to all text, as Python knows them.
_ENCODINGS = {"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
_LAYOUTS: dict[frozenset[int], Layout] = {}
"""That of the file that was read last, by the private tags that were wanted."""


class LeanHeader:
    """The wanted elements of a plain header.

    Attributes:
        values: by tag, as pydicom gives them: text, number, or a list of them. What is the same
            bytes in two files is the same object.
        media: Media Storage SOP Class UID of the file meta information.
        native: whether the pixels are stored uncompressed, in little-endian order.
        pixels: first byte of the pixels in the file and how many are there, or None.
    """

    __slots__ = ("media", "native", "pixels", "values")

    def __init__(
        self, values: dict[int, Any], media: str, native: bool, pixels: tuple[int, int] | None
    ) -> None:
        self.values, self.media, self.native, self.pixels = values, media, native, pixels

    def get(self, tag: int) -> Any:
        """One of the values, None where it is absent."""
        return self.values.get(tag)


def read_lean(
    path: Path | str, private: Collection[int] = (), opening: Opening | None = None
) -> LeanHeader | None:
    """Read the header of a plain file.

    Args:
        path: the file.
        private: wanted tags of makers, beside :data:`medssl.ingest.attributes.ATTRIBUTES`.
        opening: its first bytes, where they were read before.

    Returns:
        what is wanted of it, or None where the file is anything but plain: pydicom must read it.

    Raises:
        OSError: where it cannot be opened.
    """
    wanted = frozenset(private)
    walk = Walk(path, opening or read_opening(path), wanted)
    try:
        return _header(walk, _LAYOUTS.setdefault(wanted, Layout()))
    except Unusual:
        return None
    finally:
        walk.close()


def _header(walk: Walk, layout: Layout) -> LeanHeader:
    if walk.window[128:132] != b"DICM":
        raise Unusual
    place = layout.follow(walk, _META)
    if place:
        return _ended(walk, place, *layout.said)
    syntax, media, body = _meta(walk)
    if not (syntax in (IMPLICIT, EXPLICIT) or _ENCAPSULATED.fullmatch(syntax)):
        raise Unusual
    native, walk.explicit = syntax in (IMPLICIT, EXPLICIT), syntax != IMPLICIT
    place = _body(walk, body)
    layout.learn(walk, place, (media, native))
    return _ended(walk, place, media, native)


def _meta(walk: Walk) -> tuple[str, str, int]:
    """Transfer syntax, media storage class and end of the file meta information."""
    syntax, media, place, last = "", "", _META, 0
    while place < walk.size and walk.implicit_element(place)[0] >> 16 == 2:
        tag, _, length, start = walk.explicit_element(place)
        if tag <= last or length == UNDEFINED:
            raise Unusual
        if tag == _SYNTAX:
            syntax = walk.text(start, length)
        elif tag == _MEDIA:
            media = walk.text(start, length)
        walk.places.append((tag, place))
        last, place = tag, start + length
    return syntax, media, place


def _body(walk: Walk, place: int) -> int:
    """Take what is wanted; returns where the pixels' element begins, or the file ends."""
    last = 0x0007FFFF
    while place < walk.size:
        tag, vr, length, start = walk.element(place)
        if tag <= last:
            raise Unusual
        if tag >= _PIXELS:
            return place
        if tag == _CHARACTER_SET:  # without escapes ASCII is the same in all of them
            stated = walk.text(start, length)
            if not _CHARACTER_SETS.fullmatch(stated):
                raise Unusual
            walk.encoding = _ENCODINGS.get(stated, "")
        walk.places.append((tag, place))
        last, place = tag, walk.take(tag, vr, length, start)
    return place


def _ended(walk: Walk, place: int, media: str, native: bool) -> LeanHeader:
    """The header, where all before the pixels was read."""
    if place == walk.size:
        return LeanHeader(walk.values, media, native, None)
    if place > walk.size:
        raise Unusual
    tag, vr, length, start = walk.element(place)
    if tag != _PIXELS or (length == UNDEFINED) == native or vr not in ("", "OB", "OW"):
        raise Unusual
    found = (start, min(length, walk.size - start)) if native else None
    return LeanHeader(walk.values, media, native, found)
