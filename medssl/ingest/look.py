"""A first look at each file, in a process of its own: what it is, and the header of DICOM."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medssl.ingest.geometry import SlicePose
from medssl.ingest.headers import Refused, SliceHeader
from medssl.ingest.scan import Kind, sniff
from medssl.ingest.slices import read_slices

_HEADER = [field.name for field in fields(SliceHeader) if field.name not in ("path", "pose")]
_POSE = [field.name for field in fields(SlicePose)]


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
    kind, note = sniff(path)
    if kind is not Kind.DICOM:
        return [kind.value, note, None]
    found = read_slices(path, allow)
    if isinstance(found, Refused):
        return [kind.value, note, [found.series_uid, found.code, found.detail]]
    return [kind.value, note, [_plain(header) for header in found]]


def seen(path: Path, plain: Any) -> Seen:
    """The inverse of :func:`look`."""
    kind, note, found = plain
    if found is None:
        return Seen(Kind(kind), note)
    if isinstance(found[0], str):
        return Seen(Kind(kind), note, Refused(path, *found))
    return Seen(Kind(kind), note, [_header(path, one) for one in found])


def _plain(header: SliceHeader) -> list[Any]:
    return [
        [getattr(header.pose, name) for name in _POSE],
        [getattr(header, name) for name in _HEADER],
    ]


def _header(path: Path, plain: list[Any]) -> SliceHeader:
    pose, values = plain
    return SliceHeader(
        path=path,
        pose=SlicePose(*map(_frozen, pose)),
        **{name: _frozen(value) for name, value in zip(_HEADER, values, strict=True)},
    )


def _frozen(value: Any) -> Any:
    """Lists back to the tuples they were."""
    if type(value) is not list:
        return value
    return tuple(map(_frozen, value)) if value and type(value[0]) is list else tuple(value)
