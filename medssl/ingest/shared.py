"""Headers as plain data: what the slices of a series say alike, and what is a slice's own.

A series of a thousand slices says the same of patient, scanner and picture a thousand times. That
part is worked out once, written as one text, and read from it once.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from medssl.errors import MedsslError
from medssl.ingest.attributes import ATTRIBUTES
from medssl.ingest.geometry import SlicePose
from medssl.ingest.headers import MARKS, SliceHeader, instance_number
from medssl.ingest.lean import LeanHeader
from medssl.ingest.mosaic import CSA
from medssl.ingest.slices import PRIVATE, raw_pixels
from medssl.ingest.tags import joined as as_text
from medssl.ingest.tags import numbers, text

Plain = list[Any]
"""``[own, shared]``: what is a slice's own, and a text of the rest."""

_OWN = ("sop_uid", "instance", "raw", "frame", "tile")
_OWN_MARKS = ("trigger_time", "acquisition_time", "instance")
_POSE = ("orientation", "pixel_spacing", "shape")
_REST = [
    field.name
    for field in fields(SliceHeader)
    if field.name not in ("path", "pose", "marks", *_OWN)
]
_OWN_TAGS = {
    ATTRIBUTES[name][0]
    for name in ("SOPInstanceUID", "ImagePositionPatient", *(MARKS[mark] for mark in _OWN_MARKS))
}
# The elements of makers that only mosaics are made of are long, and each slice has its own.
_SHARED_TAGS = sorted({tag for tag, _ in ATTRIBUTES.values()} - _OWN_TAGS | PRIVATE - {CSA})
_MOST = 1000


def parted(header: SliceHeader) -> Plain:
    """A header as plain data, such as JSON can hold; :func:`joined` is the inverse."""
    marks = [[name, None if name in _OWN_MARKS else mark] for name, mark in header.marks]
    shared = [
        [getattr(header.pose, name) for name in _POSE],
        marks,
        [getattr(header, name) for name in _REST],
    ]
    own = [
        header.pose.position,
        [mark for name, mark in header.marks if name in _OWN_MARKS],
        *(getattr(header, name) for name in _OWN),
    ]
    return [own, json.dumps(shared, separators=(",", ":"))]


def joined(path: Path, plain: Plain) -> SliceHeader:
    """The header of a file, from its parts."""
    (position, own_marks, sop_uid, instance, raw, frame, tile), shared = plain
    orientation, pixel_spacing, shape, marks, rest = _shared(shared)
    own = iter(own_marks)
    return SliceHeader(
        path=path,
        pose=SlicePose(orientation, tuple(position), pixel_spacing, shape),
        marks=tuple([(name, next(own) if mark is None else mark) for name, mark in marks]),
        sop_uid=sop_uid,
        instance=instance,
        raw=None if raw is None else tuple(raw),
        frame=frame,
        tile=tuple(tile),
        **rest,
    )


@lru_cache(maxsize=_MOST)
def _shared(text: str) -> tuple[Any, ...]:
    pose, marks, rest = json.loads(text)
    named = {name: _frozen(one) for name, one in zip(_REST, rest, strict=True)}
    return *map(_frozen, pose), marks, named


def _frozen(value: Any) -> Any:
    """Lists back to the tuples they were."""
    return tuple(map(_frozen, value)) if type(value) is list else value


class Repeats:
    """What was made of headers before: one that is the same but for what is a slice's own need not
    be looked into again."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[str, list[Any]]] = {}

    def get(self, data: LeanHeader, allow: Collection[str]) -> Plain | None:
        """The plain data of a classic slice; None where no header was like this."""
        found = self._known.get(_likeness(data, allow))
        if found is None:
            return None
        try:
            own = [
                numbers(data, "ImagePositionPatient", 3),
                [as_text(data, MARKS[name]) for name in MARKS if name in _OWN_MARKS],
                text(data, "SOPInstanceUID"),
                instance_number(data),
                raw_pixels(data),
                0,
                (0, 0),
            ]
        except MedsslError:
            return None
        return [own, found[0]] if own[2] else None

    def keep(
        self, data: LeanHeader, allow: Collection[str], header: SliceHeader, plain: Plain
    ) -> None:
        """Remember what was made of a header."""
        if header.kind != "classic":
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[_likeness(data, allow)] = plain[1], list(data.values.values())


def _likeness(data: LeanHeader, allow: Collection[str]) -> tuple[object, ...]:
    """Equal for headers whose shared values are the same bytes: then they are the same objects,
    which :class:`Repeats` holds, so that no other takes their place. Values that are equal can
    still be told apart by what is made of them, as 0.0 and -0.0."""
    return data.media, data.native, *allow, *map(id, map(data.values.get, _SHARED_TAGS))
