"""Which volume the n-th sample of a run is cut from, and its random numbers.

Both depend only on (seed, n): nothing is remembered from one sample to the next, so any process can
make any sample, and a run that was stopped goes on with the samples it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.views.draw import sample_key

Array = npt.NDArray[Any]

_ORDER, _MEMBER, _NUMBER = 1, 2, 3  # streams of a key that have nothing to do with each other
_64 = (1 << 64) - 1


class Numbers:
    """Random numbers of one sample, one after the other: hashes, as in :mod:`medssl.views.draw`."""

    def __init__(self, key: int) -> None:
        self._key, self._count = key, 0

    def below(self, n: int) -> int:
        """Uniform over 0, ..., n - 1."""
        self._count += 1
        return ((sample_key(self._key, _NUMBER, self._count) & _64) * n) >> 64

    def chance(self, share: float) -> bool:
        """True in this share of the draws."""
        return self.below(1 << 53) < share * (1 << 53)


def order(key: int, n: int) -> Array:
    """A random order of 0, ..., n - 1: int64 (n,), the same with every version of numpy."""
    bits = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits += np.uint64(key & _64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return np.argsort(bits ^ (bits >> np.uint64(31)), kind="stable")


class Turns:
    """Whose turn it is.

    A *unit* is a volume, or all volumes of a series that share a turn; units of one group come in
    a random order, each once per round of the group. Groups take turns, in an order drawn anew for
    every cycle through them, so that each comes equally often. The volumes of a unit come one
    after the other as its turns come round.

    Args:
        seed: of the orders.
        units: int64 (volumes,), the unit of each volume, 0, 1, ...
        groups: int64 (volumes,), the group of each volume; a unit lies in one group.

    Raises:
        ValueError: there are no volumes.
    """

    def __init__(self, seed: int, units: Array, groups: Array) -> None:
        if len(units) == 0:
            raise ValueError("there are no volumes")
        self._seed = seed
        # Volumes sorted by unit, and units sorted by group, each with where they begin.
        self._volumes, self._first = _sorted_with_starts(units)
        self._units, self._begin = _sorted_with_starts(groups[self._volumes[self._first[:-1]]])
        self._orders: dict[int, tuple[int, Array]] = {}

    def __len__(self) -> int:
        """Units: the samples of an epoch."""
        return len(self._units)

    @property
    def groups(self) -> int:
        """The groups that take turns."""
        return len(self._begin) - 1

    def __call__(self, number: int) -> int:
        """The volume of sample ``number``."""
        cycle, place = divmod(number, self.groups)
        group = int(self._order(-1, cycle, self.groups)[place]) if self.groups > 1 else 0
        first, last = int(self._begin[group]), int(self._begin[group + 1])
        visit, place = divmod(cycle, last - first)
        unit = int(self._units[first + int(self._order(group, visit, last - first)[place])])
        first, last = int(self._first[unit]), int(self._first[unit + 1])
        if last - first == 1:
            return int(self._volumes[first])
        visit, place = divmod(visit, last - first)
        key = sample_key(sample_key(self._seed, _MEMBER, unit), 0, visit)
        return int(self._volumes[first + int(order(key, last - first)[place])])

    def _order(self, group: int, visit: int, n: int) -> Array:
        """The last order of each group is kept; two at the turn of a round, by its parity."""
        slot = 2 * group + visit % 2
        known = self._orders.get(slot)
        if known is None or known[0] != visit:
            key = sample_key(sample_key(self._seed, _ORDER, group + 1), 0, visit)
            known = self._orders[slot] = (visit, order(key, n))
        return known[1]


def _sorted_with_starts(labels: Array) -> tuple[Array, Array]:
    """Places sorted by label, and where each label 0, 1, ... begins (and the end)."""
    places = np.argsort(labels, kind="stable")
    return places, np.searchsorted(labels[places], np.arange(int(labels.max()) + 2))


def numbered(keys: Sequence[Any]) -> Array:
    """Equal keys get equal numbers, 0, 1, ... in the order they first come: int64 (n,)."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)


def spread(key: int, count: int, most: int) -> Array:
    """Up to ``most`` different places among ``count``, evenly spread: int64, ascending."""
    if count <= most:
        return np.arange(count)
    ends = np.arange(most + 1) * count // most
    shares = order(key, most) / most
    return (ends[:-1] + shares * np.diff(ends)).astype(np.int64)
