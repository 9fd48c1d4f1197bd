"""A folder of what crops are taken from, derived from the store and made anew where it lacks.

A volume is resampled once instead of in every crop, and cut to its foreground, so that crops show
the patient and not the air, and fewer bytes are read. The store itself stays whole. An entry is
made when its volume first has its turn, by whichever process has it, and appears whole or not at
all; its name is a hash of everything it depends on.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.store.arrays import COMPRESSED, open_array, write_array, write_compressed
from medssl.store.grid import resample, resampled_size
from medssl.training.catalogue import Catalogue
from medssl.training.crops import Shape, same_spacing
from medssl.training.volumes import Opened, Places, StoredVolumes, bright, find_places

Array = npt.NDArray[Any]

VERSION = 2
GAIN = 0.8  # a foreground that fills more of a volume is not worth a copy of it
_EDGE = 1e-3  # of a slice that must be foreground, so that noise in the air does not count
_SPARE = 2**30  # bytes of a disk that a cache never takes
_ABANDONED = 86400.0  # seconds after which another process' unfinished entry is removed


@dataclass(frozen=True)
class CacheSettings:
    """Where a cache is, and what it may take.

    Attributes:
        folder: made where it does not exist, readable by its owner alone.
        layout: "raw" memory maps, or "compressed" chunks (smaller, and slower to read).
        most_bytes: what the folder may hold; None for what the disk has.
    """

    folder: Path
    layout: Literal["raw", "compressed"] = "raw"
    most_bytes: int | None = None


class CachedVolumes:
    """Opens the cached volumes, and makes those that are not there.

    Args:
        volumes: of the store.
        shape: of the crops; the foreground is never cut smaller than one of them.
        dtype: of the cached voxels.
        labels: keep label maps too; foreground then is what is bright or labelled.
        settings: where and how much.

    Raises:
        MedsslError: CONFIG_INVALID where the folder cannot be made.
    """

    def __init__(
        self,
        volumes: Catalogue,
        shape: Shape,
        dtype: np.dtype[Any],
        labels: bool,
        settings: CacheSettings,
    ) -> None:
        self._volumes, self._shape, self._dtype, self._labels = volumes, shape, dtype, labels
        self._settings = settings
        self._stored = StoredVolumes(volumes, labels, places=False)
        # In-plane spacing is another one in every plane: planes are resampled crop by crop.
        self._spacing = None if shape.plane else shape.spacing
        try:
            settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _failed(error) from None
        _tidy(settings.folder)

    def __call__(self, index: int) -> Opened:
        """The volume as crops are taken from it.

        Raises:
            MedsslError: DISK_FULL, STORE_CORRUPT, CONFIG_INVALID.
        """
        folder = self._settings.folder / self._name(index)
        try:
            facts = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            try:
                self._make(index, folder)
            except OSError as error:
                raise _failed(error) from None
            facts = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        try:
            return self._opened(index, folder, facts)
        except (MedsslError, OSError, ValueError, KeyError):
            self._stored.arrays(index)  # where the store itself is damaged, say that
            raise MedsslError(
                "STORE_CORRUPT",
                "An entry of the cache is damaged",
                where=folder.name,
                fix="Remove the cache's folder; it is made anew.",
            ) from None

    def _name(self, index: int) -> str:
        volumes = self._volumes
        own = volumes.spacing[index].tolist()
        facts = [
            VERSION, volumes.hashes[index].decode(), volumes.ids[index].decode(),
            volumes.shape[index].tolist(), own, self._labels, self._spacing, str(self._dtype),
            float(volumes.bright[index]), least_box(self._shape, own), self._settings.layout, GAIN,
            _EDGE,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def _opened(self, index: int, folder: Path, facts: dict[str, Any]) -> Opened:
        suffix = COMPRESSED if self._settings.layout == "compressed" else ".npy"
        image, label = self._stored.arrays(index) if facts["whole"] else (None, None)
        if not facts["whole"]:
            image = open_array(str(folder / f"image{suffix}"))
            label = open_array(str(folder / f"label{suffix}")) if facts["label"] else None
        places = Places.of_table(np.load(folder / "places.npy", allow_pickle=False))
        spacing, corner, zoom = facts["spacing"], facts["corner"], facts["zoom"]
        return Opened(image, label, tuple(spacing), tuple(corner), tuple(zoom), places)

    def _make(self, index: int, folder: Path) -> None:
        """Write an entry under another name and rename it; where another process was first, its
        entry is as good."""
        image, label = self._stored.arrays(index)
        mask = bright(image, float(self._volumes.bright[index]))
        box = foreground_box(mask, least_box(self._shape, self._volumes.spacing[index].tolist()))
        if label is not None:
            box = _around(box, label[0] > 0)
        own = self._volumes.spacing[index]
        wanted = self._spacing or own
        resampled = not same_spacing(own, wanted)
        share = math.prod(b - a for a, b in box) / mask.size
        if not resampled and share > GAIN:
            box = [(0, n) for n in mask.shape]
        # What is neither resampled, cut nor compressed is read from the store.
        whole = not resampled and share > GAIN and self._settings.layout == "raw"
        window = (slice(None), *(slice(first, last) for first, last in box))
        image = np.asarray(image[window])
        label = None if label is None else np.asarray(label[window])
        size = image.shape[1:]
        if resampled:
            size = resampled_size(size, own, wanted)
            image = resample(image, size, 1)
            image = np.rint(image) if self._dtype.kind != "f" else image
            label = None if label is None else resample(label, size, 0)
        if self._labels:
            target = np.zeros(size, bool) if label is None else label[0]
        else:
            target = bright(image, float(self._volumes.bright[index]))
        extent = [last - first for first, last in box]
        zoom = [n / m for n, m in zip(extent, size, strict=True)]
        facts = {
            "whole": whole,
            "label": label is not None,
            "corner": [first for first, _ in box],
            "zoom": zoom,
            "spacing": [mm * z for mm, z in zip(own.tolist(), zoom, strict=True)],
        }
        arrays = {} if whole else {"image": image.astype(self._dtype, copy=False)}
        if label is not None and not whole:
            arrays["label"] = label
        self._write(folder, arrays, find_places(target).table(), facts)

    def _write(
        self, folder: Path, arrays: dict[str, Array], places: Array, facts: dict[str, Any]
    ) -> None:
        partial = folder.with_name(f".partial-{os.getpid()}-{time.monotonic_ns()}-{folder.name}")
        compressed, counted = self._settings.layout == "compressed", 0
        try:
            if not compressed:
                counted = places.nbytes + sum(array.nbytes for array in arrays.values())
                reserve(self._settings, counted)
            partial.mkdir()
            for name, array in arrays.items():
                if compressed:
                    write_compressed(partial / f"{name}{COMPRESSED}", array, self._shape.size)
                else:
                    write_array(partial / f"{name}.npy", array)
            write_array(partial / "places.npy", places)
            (partial / "entry.json").write_text(json.dumps(facts), encoding="utf-8")
            if compressed:  # known only now
                taken = sum(file.stat().st_size for file in partial.iterdir())
                reserve(self._settings, taken)
                counted = taken
            if not folder.exists():
                partial.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            if partial.exists():
                shutil.rmtree(partial, ignore_errors=True)
                reserve(self._settings, -counted)


def least_box(shape: Shape, own: list[float]) -> list[int]:
    """Voxels of spacing ``own`` that a crop spans, per axis: no foreground is cut smaller."""
    least = [1] * len(own)
    for plane in shape.planes():
        axes = plane[1:] if plane else tuple(range(len(own)))
        wanted = shape.spacing or [own[axis] for axis in axes]
        for axis, n, mm in zip(axes, shape.size, wanted, strict=True):
            least[axis] = max(least[axis], math.ceil(n * mm / own[axis]))
    return least


def foreground_box(mask: Array, least: list[int]) -> list[tuple[int, int]]:
    """The box of the foreground, at least so large where the volume is: first and end per axis.

    A slice belongs to it where at least 0.1 % of it is foreground.

    Args:
        mask: bool (*spatial).
        least: voxels per axis.
    """
    box = []
    for axis, extent in enumerate(mask.shape):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        counts = np.count_nonzero(mask, axis=others)
        inside = np.flatnonzero(counts > _EDGE * mask.size / extent)
        first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, extent)
        missing = max(0, min(least[axis], extent) - (last - first))
        first = min(max(first - missing // 2, 0), extent - (last - first + missing))
        box.append((first, max(last, first + min(least[axis], extent))))
    return box


def _around(box: list[tuple[int, int]], labelled: Array) -> list[tuple[int, int]]:
    """The box made to hold everything that is labelled."""
    joined = []
    for axis, (first, last) in enumerate(box):
        inside = np.flatnonzero(labelled.any(tuple(a for a in range(labelled.ndim) if a != axis)))
        ends = (first, last) if not len(inside) else (int(inside[0]), int(inside[-1]) + 1)
        joined.append((min(first, ends[0]), max(last, ends[1])))
    return joined


def reserve(settings: CacheSettings, count: int) -> None:
    """Count bytes towards what the folder may hold, together with every other process.

    Raises:
        MedsslError: DISK_FULL where they are too many, or the disk would be left with under 1 GiB.
    """
    with (settings.folder / "bytes").open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        used = int(stream.read() or 0)
        free = shutil.disk_usage(settings.folder).free
        too_many = settings.most_bytes is not None and used + count > settings.most_bytes
        if count > 0 and (too_many or free - count < _SPARE):
            limit = "what it may take" if too_many else "what the disk has"
            raise MedsslError(
                "DISK_FULL",
                f"The cache of crops needs more than {limit}; it holds {used / 2**30:.2f} GiB",
                where="cache",
                fix="Set cache=compressed or cache=off, another MEDSSL_CACHE, or free space.",
            )
        stream.truncate(0)
        stream.write(str(max(0, used + count)))


def _tidy(folder: Path) -> None:
    """Remove what killed processes left; they may run on other machines, so only what is old."""
    for path in folder.glob(".partial-*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path)
        except FileNotFoundError:
            continue


def _failed(error: OSError) -> MedsslError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MedsslError("DISK_FULL", "The disk is full", where="cache", fix="Free space.")
    return MedsslError(
        "CONFIG_INVALID",
        f"The cache's folder cannot be used: {error.strerror}",
        where="MEDSSL_CACHE",
        fix="Give a folder that can be written, or use cache=off.",
    )
