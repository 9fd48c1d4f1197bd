"""A first look at each file, in a process of its own: what it is, and the header of DICOM."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.ingest.headers import Refused, SliceHeader
from medssl.ingest.lean import LeanHeader
from medssl.ingest.scan import Kind, opened
from medssl.ingest.shared import Repeats, joined, parted
from medssl.ingest.slices import open_header, read_slices

_REPEATS = Repeats()
"""Of the files that this process has looked at."""


@dataclass(frozen=True)
class Seen:
    """What a file is.

    Attributes:
        kind: by its content.
        note: what is special about it, free of identifiers.
        slices: of a DICOM file, or why it has none; None of others.
    """

    kind: Kind
    note: str
    slices: list[SliceHeader] | Refused | None = None


def look(path: Path, folder: Path, allow: Collection[str] = ()) -> Any:
    """Look at one file, and return plain data for :func:`seen`.

    Args:
        path: the file.
        folder: not used; what every work is given.
        allow: codes of defects to accept.
    """
    kind, note, opening = opened(path)
    if kind is not Kind.DICOM:
        return [kind.value, note, None]
    data = open_header(path, opening)
    lean = isinstance(data, LeanHeader)
    if lean and (known := _REPEATS.get(data, allow)) is not None:
        return [kind.value, note, [known]]
    found = read_slices(path, allow, data)
    if isinstance(found, Refused):
        return [kind.value, note, [found.series_uid, found.code, found.detail]]
    plain = [parted(header) for header in found]
    if lean and len(found) == 1:
        _REPEATS.keep(data, allow, found[0], plain[0])
    return [kind.value, note, plain]


def seen(path: Path, plain: Any) -> Seen:
    """The inverse of :func:`look`."""
    kind, note, found = plain
    if found is None:
        return Seen(Kind(kind), note)
    if isinstance(found[0], str):
        return Seen(Kind(kind), note, Refused(path, *found))
    return Seen(Kind(kind), note, [joined(path, one) for one in found])
