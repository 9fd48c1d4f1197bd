"""What a header has alike with the headers before it, and need not be walked over again.

The slices of a series differ in a few elements: UIDs, numbers, positions, times. All others are the
same bytes, and what was found there once is there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from medssl.ingest.walk import UNDEFINED, Unusual, Walk

# Elements that say how the others are read; a file that differs in them is another kind of file.
_READING = frozenset({0x00020002, 0x00020010, 0x00080005})
_MOST_LOOSE = 24  # of a series; where more differ, another one has begun


class _Piece(NamedTuple):
    """Elements next to each other that are the same bytes in each file, and the wanted values among
    them; or, without bytes, the tag of one element that differs."""

    raw: bytes
    values: dict[int, Any]
    tag: int = 0


class Layout:
    """The elements of the file that was walked over last, and which of them others have alike.

    Attributes:
        said: what :meth:`learn` was told of the file beside its elements.
    """

    def __init__(self) -> None:
        self.said: tuple[str, bool] = ("", True)
        self._elements: list[tuple[int, bytes]] = []
        self._loose: set[int] = set()
        self._pieces: list[_Piece] = []
        self._explicit, self._encoding = True, ""

    def follow(self, walk: Walk, place: int) -> int:
        """Take the wanted values of a file that is laid out so.

        Args:
            walk: over the file, which nothing was taken of yet.
            place: where its elements begin.

        Returns:
            where the elements end, or 0 where the file is laid out otherwise; then nothing was
            taken of it.

        Raises:
            Unusual: as the methods of the walk.
        """
        walk.explicit, walk.encoding = self._explicit, self._encoding
        for raw, values, tag in self._pieces:
            if raw:
                if not walk.window.startswith(raw, place):
                    break
                walk.values.update(values)
                place += len(raw)
                continue
            meta = tag >> 16 == 2
            found, vr, length, start = (walk.explicit_element if meta else walk.element)(place)
            if meta and length == UNDEFINED:
                raise Unusual
            if found != tag or walk.base:
                break
            place = walk.take(tag, vr, length, start)
        else:
            return place if self._pieces else 0
        walk.restart()
        return 0

    def learn(self, walk: Walk, end: int, said: tuple[str, bool]) -> None:
        """Remember the layout of a file that was walked over.

        Args:
            walk: at its end.
            end: where the pixels' element begins.
            said: what to say of files that are laid out so.
        """
        self.said, self._explicit, self._encoding = said, walk.explicit, walk.encoding
        if walk.base or end > len(walk.window):
            self._elements, self._pieces = [], []
            return
        ends = [*(place for _, place in walk.places[1:]), end]
        elements = [
            (tag, walk.window[place:stop])
            for (tag, place), stop in zip(walk.places, ends, strict=True)
        ]
        if [tag for tag, _ in elements] == [tag for tag, _ in self._elements]:
            both = zip(elements, self._elements, strict=True)
            self._loose |= {one[0] for one, other in both if one != other}
        else:
            self._loose = set()
        if len(self._loose) > _MOST_LOOSE or self._loose & _READING:
            self._loose = set()
        self._elements = elements
        self._pieces = list(self._joined(walk.values))

    def _joined(self, values: dict[int, Any]) -> Iterator[_Piece]:
        for loose, together in groupby(self._elements, lambda one: one[0] in self._loose):
            if loose:
                yield from (_Piece(b"", {}, tag) for tag, _ in together)
                continue
            alike = list(together)
            found = {tag: values[tag] for tag, _ in alike if tag in values}
            yield _Piece(b"".join(raw for _, raw in alike), found)
