"""One series that holds several volumes: which slices belong together.

Slices are only told apart where they must be, because positions repeat or orientations differ, and
only by a tag that explains the repeats exactly: every volume then has every position. Whatever
cannot be explained so stays together, and its geometry is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.ingest.geometry import ORIENTATION_TOLERANCE, check_plane, places
from medssl.ingest.headers import SliceHeader

# Cosines of planes that are meant to differ do so by more than 5 degrees.
_CLEARLY_APART = float(np.sin(np.radians(5.0)))
# More are no acquisition by planes, and comparing each with each would take for ever.
_MOST_PLANES = 32
# Values that say more than their rank, and are no dates.
_SPOKEN = frozenset({"echo_time", "inversion_time", "b_value"})


@dataclass(frozen=True)
class Part:
    """The slices of one volume, and what tells it from the others of its series.

    ``name`` is empty where the series has one volume, else such as "echo_time=4.92" or
    "temporal_position=3/151" (the third of 151): never a date or time.
    """

    name: str
    headers: list[SliceHeader]


def split(headers: Sequence[SliceHeader]) -> list[Part]:
    """The volumes of a series.

    Args:
        headers: all slices of the series, one or more.

    Raises:
        MedsslError: as :func:`medssl.ingest.geometry.check_plane`.
    """
    parts = []
    for part in _by_orientation(headers):
        check_plane([header.pose for header in part.headers])
        parts += _by_marks(part)
    return parts


def _by_orientation(headers: Sequence[SliceHeader]) -> list[Part]:
    planes: list[tuple[np.ndarray, list[SliceHeader]]] = []
    for header in headers:
        cosines = np.asarray(header.pose.orientation, dtype=np.float64)
        for first, members in planes:
            if (np.abs(first - cosines) <= ORIENTATION_TOLERANCE).all():
                members.append(header)
                break
        else:
            planes.append((cosines, [header]))
        if len(planes) > _MOST_PLANES:
            return [Part("", list(headers))]
    apart = all(
        np.abs(one - two).max() > _CLEARLY_APART
        for index, (one, _) in enumerate(planes)
        for two, _ in planes[:index]
    )
    if len(planes) == 1 or not apart or any(len(members) < 2 for _, members in planes):
        return [Part("", list(headers))]
    planes.sort(key=lambda plane: plane[0].tolist())
    count = len(planes)
    return [Part(f"orientation={i}/{count}", found) for i, (_, found) in enumerate(planes, 1)]


def _by_marks(part: Part) -> list[Part]:
    where = places([header.pose for header in part.headers])
    if len(set(where)) == 1:  # one position over and over is no volume
        return [part]
    spots = {id(header): place for header, place in zip(part.headers, where, strict=True)}
    parts = [part]
    names = list(dict.fromkeys(name for header in part.headers for name, _ in header.marks))
    for name in names:
        parts = [new for old in parts for new in _by_value(old, name, spots)]
    return [new for old in parts for new in _by_order(old, spots)]


def _by_value(part: Part, name: str, spots: dict[int, int]) -> list[Part]:
    """Split by one mark, if every value then has every position equally often."""
    if _complete(part.headers, spots, once=True):
        return [part]
    groups: dict[str, list[SliceHeader]] = {}
    for header in part.headers:
        groups.setdefault(dict(header.marks).get(name, ""), []).append(header)
    wanted = {spots[id(header)] for header in part.headers}
    fits = all(
        {spots[id(header)] for header in group} == wanted and _complete(group, spots)
        for group in groups.values()
    )
    if len(groups) == 1 or not fits:
        return [part]
    ordered = sorted(groups.items(), key=lambda group: _sortable(group[0]))
    count = len(ordered)
    return [
        _named(part.name, name, _spoken(name, value) or f"{rank}/{count}", group)
        for rank, (value, group) in enumerate(ordered, 1)
    ]


def _by_order(part: Part, spots: dict[int, int]) -> list[Part]:
    """Split by Instance Number, where it counts volume by volume or position by position."""
    if _complete(part.headers, spots, once=True) or not _complete(part.headers, spots):
        return [part]
    numbers = [header.instance for header in part.headers]
    if None in numbers or len(set(numbers)) < len(numbers):
        return [part]
    ordered = sorted(part.headers, key=lambda header: header.instance or 0)
    positions = len({spots[id(header)] for header in ordered})
    count = len(ordered) // positions
    by_volume = [ordered[i * positions : (i + 1) * positions] for i in range(count)]
    if all(_complete(group, spots, once=True) for group in by_volume):
        groups = by_volume
    elif all(
        len({spots[id(header)] for header in ordered[i * count : (i + 1) * count]}) == 1
        for i in range(positions)
    ):
        groups = [ordered[i::count] for i in range(count)]
    else:
        return [part]
    return [
        _named(part.name, "order", f"{rank}/{count}", group) for rank, group in enumerate(groups, 1)
    ]


def _complete(headers: Sequence[SliceHeader], spots: dict[int, int], once: bool = False) -> bool:
    """Whether every position is there equally often (or once)."""
    counts = set(Counter(spots[id(header)] for header in headers).values())
    return counts == {1} if once else len(counts) == 1


def _spoken(name: str, value: str) -> str:
    if name not in _SPOKEN:
        return ""
    numbers, _ = _sortable(value)
    return f"{numbers[0]:g}" if numbers else "none"


def _named(before: str, name: str, value: str, headers: list[SliceHeader]) -> Part:
    own = f"{name}={value}"
    return Part(f"{before}, {own}" if before else own, headers)


def _sortable(value: str) -> tuple[list[float], str]:
    try:
        return [float(word) for word in value.split("\\")], value
    except ValueError:
        return [], value
