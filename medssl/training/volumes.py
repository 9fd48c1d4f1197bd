"""Volumes opened for crops: their arrays, and where their foreground is."""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.store.arrays import open_array
from medssl.training.catalogue import Catalogue
from medssl.training.sampling import Numbers, spread

Array = npt.NDArray[Any]

PLACES = 512  # foreground voxels remembered of each class


@dataclass(frozen=True)
class Places:
    """Some voxels of the foreground.

    Attributes:
        voxels: int32 (n, d), those of a class together.
        first: where each class begins, and the end.
    """

    voxels: Array
    first: tuple[int, ...]

    def draw(self, numbers: Numbers) -> tuple[int, ...] | None:
        """A voxel of a class, both drawn evenly; None where there is no foreground."""
        if len(self.first) < 2:
            return None
        which = numbers.below(len(self.first) - 1)
        first, last = self.first[which], self.first[which + 1]
        return tuple(int(v) for v in self.voxels[first + numbers.below(last - first)])

    def table(self) -> Array:
        """int32 (n, 1 + d): the class's number and the voxel."""
        counts = np.diff(self.first)
        return np.column_stack((np.repeat(np.arange(len(counts)), counts), self.voxels))

    @classmethod
    def of_table(cls, table: Array) -> Places:
        """From what :meth:`table` gave."""
        classes = int(table[:, 0].max()) + 1 if len(table) else 0
        first = np.searchsorted(table[:, 0], np.arange(classes + 1))
        return cls(np.asarray(table[:, 1:]), tuple(int(n) for n in first))


def find_places(mask: Array) -> Places:
    """Up to 512 voxels of each class, evenly spread in memory order, the same ones every time.

    Args:
        mask: (*spatial), whole numbers or bool; 0 is background.
    """
    flat = mask.reshape(-1)
    where = np.flatnonzero(flat)
    values = flat[where]
    chosen, first = [], [0]
    for value in np.unique(values):
        of_class = where[values == value] if mask.dtype != bool else where
        chosen.append(of_class[spread(int(value), len(of_class), PLACES)])
        first.append(first[-1] + len(chosen[-1]))
    joined = np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
    voxels = np.stack(np.unravel_index(joined, mask.shape), axis=1).astype(np.int32)
    return Places(voxels, tuple(first) if chosen else ())


@dataclass(frozen=True)
class Opened:
    """A volume that crops are taken from: the stored one, or what a cache keeps of it.

    Attributes:
        image: (C, *shape), sliced like a numpy array.
        label: (1, *shape), or None.
        spacing: mm of its voxels.
        corner: where it begins in the stored volume, in stored voxels.
        zoom: stored voxels that one of its voxels spans, per axis.
        places: of its foreground, where that is wanted.
    """

    image: Any
    label: Any
    spacing: tuple[float, ...]
    corner: tuple[int, ...]
    zoom: tuple[float, ...]
    places: Places | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its voxels."""
        return tuple(self.image.shape[1:])


class Volumes(Protocol):
    """Opens volumes by their place in the catalogue."""

    def __call__(self, index: int) -> Opened:
        """Raises MedsslError: STORE_CORRUPT and what making a cache raises."""
        ...


class Recent:
    """What a function gave for the last arguments, at most ``limit`` of them; stays behind when it
    is sent to another process."""

    def __init__(self, make: Callable[[int], Opened], limit: int | None = None) -> None:
        self._make, self._limit = make, limit or _kept()
        self._known: OrderedDict[int, Opened] = OrderedDict()

    def __call__(self, index: int) -> Opened:
        """What the function gives."""
        found = self._known.get(index)
        if found is None:
            found = self._known[index] = self._make(index)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(index)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Recent, (self._make, self._limit)


def _kept() -> int:
    """Volumes that a process keeps open: each takes one or two file descriptors, of which there
    often are 1024."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(4096, max(soft, 256) // 4)


class StoredVolumes:
    """Opens the store's own arrays.

    Args:
        catalogue: of the volumes.
        labels: open label maps too; foreground then is what is labelled, else what is bright.
        places: find the foreground; reads each volume whole when it is opened.
    """

    def __init__(self, catalogue: Catalogue, labels: bool, places: bool) -> None:
        self._catalogue, self._labels, self._places = catalogue, labels, places

    def __call__(self, index: int) -> Opened:
        """The volume's arrays as they are stored."""
        volumes = self._catalogue
        image, label = self.arrays(index)
        return Opened(
            image,
            label,
            tuple(float(v) for v in volumes.spacing[index]),
            (0,) * volumes.dims,
            (1.0,) * volumes.dims,
            find_places(self.mask(index, image, label)) if self._places else None,
        )

    def arrays(self, index: int) -> tuple[Array, Array | None]:
        """Voxels and label map, the latter only where labels are asked for.

        Raises:
            MedsslError: STORE_CORRUPT where they are not what the manifest says.
        """
        volumes = self._catalogue
        image = open_array(volumes.path(index))
        path = volumes.path(index, label=True) if self._labels else ""
        label = open_array(path) if path else None
        shape = tuple(int(n) for n in volumes.shape[index])
        for array in (image, label):
            if array is not None and array.shape[1:] != shape:
                raise MedsslError(
                    "STORE_CORRUPT",
                    "An array has not the shape that the manifest states",
                    where=volumes.ids[index].decode(),
                )
        return image, label

    def mask(self, index: int, image: Array, label: Array | None) -> Array:
        """The foreground (*spatial): the label map's classes, or True where it is bright."""
        if self._labels:
            return np.zeros((0,) * self._catalogue.dims, bool) if label is None else label[0]
        return bright(image, float(self._catalogue.bright[index]))


def bright(image: Array, level: float) -> Array:
    """Where any channel is above the level: bool (*spatial)."""
    return np.asarray((image > level).any(axis=0) if len(image) > 1 else image[0] > level)
