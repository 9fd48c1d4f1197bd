"""Crops of a store in the order a run needs them.

Which crop the n-th sample of a run is depends only on (seed, n), so a run that was stopped goes on
with the samples it would have had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medssl.errors import MedsslError
from medssl.store import Store
from medssl.store.intensity import IntensityContract
from medssl.training.cache import CachedVolumes, CacheSettings
from medssl.training.catalogue import catalogue
from medssl.training.crops import Cut, Plane, Shape, cut, pad_value, read, wire_dtype
from medssl.training.ring import loader
from medssl.training.sampling import Numbers, Turns
from medssl.training.slots import Fields
from medssl.training.volumes import Opened, Recent, StoredVolumes, Volumes
from medssl.views.draw import sample_key

Array = npt.NDArray[Any]

__all__ = ["Batch", "CropSource", "Place", "loader", "normalised"]


class Batch(TypedDict):
    """A batch of crops.

    image: (B, C, *crop), raw intensities, uint8, int16, uint16, float16 or float32; label: (B, 1,
    *crop), uint8, or int32 where values are larger, zeros where a volume has none; (B, 0) where
    labels are not asked for; target: int64 (B,), the class, -1 where there is none; normalisation:
    float32 (B, 4), the low, high, shift and scale of every sample; spacing: float32 (B, d), mm of
    the crop's voxels; key: int64 (B,); volume: int64 (B,), its place among the source's volumes;
    subject: int64 (B,), the number of its subject; place: float32 (B, D, d + 1), voxel of the crop
    -> mm in the stored volume from its corner; extent: float32 (B, D), mm of that volume.
    """

    image: Tensor
    label: Tensor
    target: Tensor
    normalisation: Tensor
    spacing: Tensor
    key: Tensor
    volume: Tensor
    subject: Tensor
    place: Tensor
    extent: Tensor


@dataclass(frozen=True)
class Place:
    """Where a sample was cut from: the volume, and the crop in its stored voxels, fractions where
    it was resampled; may begin before the volume where it is padded. ``plane`` has the axis across
    a 2D crop of a 3D volume, and those of its rows and columns, which both run backwards."""

    volume_id: str
    start: tuple[float, ...]
    size: tuple[float, ...]
    plane: tuple[int, int, int] | None

    def matrix(self, size: Sequence[int], spacing: Sequence[float]) -> Array:
        """Voxel of the crop -> mm from the outer corner of the volume's first voxel.

        Args:
            size: voxels of the crop.
            spacing: mm of the stored voxels.

        Returns:
            float32 (D, d + 1), D of the volume and d of the crop.
        """
        found = np.zeros((len(spacing), len(size) + 1), np.float32)
        axes = self.plane[1:] if self.plane else range(len(size))
        for column, (axis, n) in enumerate(zip(axes, size, strict=True)):
            step = spacing[axis] * self.size[axis] / n
            first = spacing[axis] * self.start[axis] + step / 2
            if self.plane:
                step, first = -step, first + step * (n - 1)
            found[axis, column], found[axis, -1] = step, first
        if self.plane:
            across = self.plane[0]
            found[across, -1] = spacing[across] * (self.start[across] + self.size[across] / 2)
        return found


class CropSource(Dataset[dict[str, Any]]):
    """Random crops of volumes, by the number of the sample.

    Every volume comes once per epoch, with ``balance`` once per round of its group; volumes of one
    series share a turn. A padded crop has 0 outside of the volume when it is normalised, up to
    1/32.

    Args:
        store: where the volumes are.
        volume_ids: which of them.
        crop_size: voxels of a crop, at ``spacing``.
        intensity: the contract whose parameters go along.
        seed: of order and place.
        spacing: mm per axis that crops are resampled to; None keeps every volume's own.
        foreground: the share of crops that are centred on the foreground. With ``labels`` that is
            a labelled voxel, whose class is drawn first, so that small structures come as often as
            large ones; else a bright one.
        targets: class of a volume by its id, for classification.
        labels: read label maps too.
        balance: manifest columns or label names; volumes alike in them are a group, and groups
            come equally often.
        share_turns: whether volumes of one series (times, echoes) share a turn.
        plane: take 2D crops of 3D volumes: rows run down, columns to the right, as a picture of
            that plane is looked at (the patient's right on the left, or the front on the left).
        dtype: "float32" or "float16" instead of the smallest that holds what is stored.
        cache: keep volumes resampled and cut to their foreground; None reads the store.

    Raises:
        MedsslError: CONFIG_INVALID, NOTHING_USABLE, VOLUME_UNKNOWN, CONTRACT_MISMATCH.
    """

    def __init__(
        self,
        store: Store,
        volume_ids: Sequence[str],
        crop_size: Sequence[int],
        intensity: IntensityContract,
        seed: int,
        *,
        spacing: Sequence[float] | None = None,
        foreground: float = 0.0,
        targets: Mapping[str, int] | None = None,
        labels: bool = False,
        balance: Sequence[str] = (),
        share_turns: bool = True,
        plane: Plane | None = None,
        dtype: Literal["float16", "float32"] | None = None,
        cache: CacheSettings | None = None,
    ) -> None:
        self._volumes = catalogue(
            store,
            volume_ids,
            intensity,
            targets=targets,
            balance=balance,
            share_turns=share_turns,
        )
        wanted = None if spacing is None else tuple(float(v) for v in spacing)
        self._shape = Shape(tuple(crop_size), wanted, foreground, plane)
        _check(self._shape, self._volumes.dims)
        self._seed, self._labels = seed, labels
        self._turns = Turns(seed, self._volumes.units, self._volumes.groups)
        self._dtype = wire_dtype(self._volumes, self._shape, dtype)
        self._pad = pad_value(self._volumes.normalisation[:, 2], self._dtype)
        largest = max(store.info.label_names, default=0)
        self._label_dtype = np.dtype(np.uint8 if 0 < largest < 256 else np.int32)
        opener: Volumes
        if cache is None:
            opener = StoredVolumes(self._volumes, labels, foreground > 0)
        else:
            opener = CachedVolumes(self._volumes, self._shape, self._dtype, labels, cache)
        self._open = Recent(opener)

    def __len__(self) -> int:
        """Samples of an epoch."""
        return len(self._turns)

    def fields(self) -> Fields:
        """Shape and dtype of what one sample has."""
        dims, channels, size = len(self._shape.size), self._volumes.channels, self._shape.size
        label = (1, *size) if self._labels else (0,)
        return {
            "image": ((channels, *size), self._dtype),
            "label": (label, self._label_dtype),
            "target": ((), np.dtype(np.int64)),
            "normalisation": ((4,), np.dtype(np.float32)),
            "spacing": ((dims,), np.dtype(np.float32)),
            "key": ((), np.dtype(np.int64)),
            "volume": ((), np.dtype(np.int64)),
            "subject": ((), np.dtype(np.int64)),
            "place": ((self._volumes.dims, dims + 1), np.dtype(np.float32)),
            "extent": ((self._volumes.dims,), np.dtype(np.float32)),
        }

    def write(self, number: int, batch: Mapping[str, Array], place: int) -> None:
        """Write a sample into a batch.

        Args:
            number: of the sample.
            batch: the arrays of :meth:`fields`, each with the batch in front.
            place: of the sample in the batch.

        Raises:
            MedsslError: STORE_CORRUPT, LABEL_INVALID, and with a cache DISK_FULL, CONFIG_INVALID.
        """
        index, volume, where, key = self._where(number)
        read(volume.image, where, batch["image"][place], self._pad[index], order=1)
        if self._labels:
            self._write_label(volume, where, batch["label"][place])
        batch["target"][place] = self._volumes.targets[index]
        batch["normalisation"][place] = self._volumes.normalisation[index]
        own = [volume.spacing[axis] for axis in where.axes]
        batch["spacing"][place] = self._shape.spacing or own
        batch["key"][place] = key
        batch["volume"][place] = index
        batch["subject"][place] = self._volumes.subjects[index]
        stored = self._volumes.spacing[index]
        batch["place"][place] = self._place(index, volume, where).matrix(self._shape.size, stored)
        batch["extent"][place] = self._volumes.shape[index] * stored

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The sample as tensors, without a batch in front."""
        arrays = {k: np.empty((1, *shape), dtype) for k, (shape, dtype) in self.fields().items()}
        self.write(number, arrays, 0)
        return {name: torch.from_numpy(array)[0] for name, array in arrays.items()}

    def place(self, number: int) -> Place:
        """Where a sample is cut from."""
        index, volume, where, _ = self._where(number)
        return self._place(index, volume, where)

    def _place(self, index: int, volume: Opened, where: Cut) -> Place:
        start, size = list(where.start), list(where.size)
        for axis, first, n in zip(where.axes, where.before, where.native, strict=True):
            # rows and columns of a plane run against its axes, and so does their padding
            after = n - size[axis] - first
            start[axis] -= after if where.plane else first
            size[axis] = n
        rows = zip(start, size, volume.corner, volume.zoom, strict=True)
        placed = [(corner + first * zoom, n * zoom) for first, n, corner, zoom in rows]
        starts, sizes = zip(*placed, strict=True)
        return Place(self._volumes.ids[index].decode(), starts, sizes, where.plane)

    def _where(self, number: int) -> tuple[int, Opened, Cut, int]:
        epoch, turn = divmod(number, len(self._turns))
        key = sample_key(self._seed, epoch, turn)
        index = self._turns(number)
        volume = self._open(index)
        return index, volume, cut(self._shape, volume, Numbers(key)), key

    def _write_label(self, volume: Opened, where: Cut, out: Array) -> None:
        if volume.label is None:
            out[...] = 0
            return
        if volume.label.dtype.itemsize > out.dtype.itemsize:
            wide = np.empty(out.shape, volume.label.dtype)
            read(volume.label, where, wide, 0, order=0)
            if wide.max() > np.iinfo(out.dtype).max:
                text = "A label map has values that the store does not name"
                raise MedsslError("LABEL_INVALID", text, where=f"value {wide.max()}")
            out[...] = wide
            return
        read(volume.label, where, out, 0, order=0)


def _check(shape: Shape, dims: int) -> None:
    if shape.plane is not None and dims != 3:
        text = "Only 3D volumes have planes"
        raise MedsslError("CONFIG_INVALID", text, where="plane", fix="Leave plane out.")
    wanted = 2 if shape.plane else dims
    for name, value in (("crop size", shape.size), ("spacing", shape.spacing)):
        if value is not None and (len(value) != wanted or min(value) <= 0):
            text = f"It has {wanted} positive numbers here"
            raise MedsslError("CONFIG_INVALID", text, where=name)


def normalised(batch: Batch) -> Tensor:
    """The batch's images under their intensity contract: float32 (B, C, *crop), on its device."""
    image = batch["image"].to(torch.float32)
    low, high, shift, scale = (
        batch["normalisation"].reshape(-1, 4, *[1] * (image.ndim - 1)).unbind(1)
    )
    return (image.clamp(low, high) - shift) * scale
