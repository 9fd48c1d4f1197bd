"""Crops of a store in the order a run needs them.

Which crop the n-th sample of a run is depends only on (seed, n), so a run that was stopped goes on
with the samples it would have had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medssl.store import Store, Volume
from medssl.store.grid import resample
from medssl.store.intensity import IntensityContract
from medssl.views.draw import sample_key

Array = npt.NDArray[Any]


class Batch(TypedDict):
    """A batch of crops.

    image: float32 (B, C, *crop), raw intensities; label: int64 (B, 1, *crop), zeros where there
    is none; target: int64 (B,), the class, -1 where there is none; normalisation: float32 (B, 4),
    the low, high, shift and scale of every sample; spacing: float32 (B, d), mm of the crop's
    voxels; key: int64 (B,).
    """

    image: Tensor
    label: Tensor
    target: Tensor
    normalisation: Tensor
    spacing: Tensor
    key: Tensor


class CropSource(Dataset[dict[str, Any]]):
    """Random crops of volumes, by the number of the sample.

    Sample n belongs to epoch n // V and is the (n % V)-th volume of that epoch's order, so every
    volume comes once per epoch.

    Args:
        store: where the volumes are.
        volume_ids: which of them.
        crop_size: voxels of a crop, at ``spacing``.
        intensity: the contract whose parameters go along.
        seed: of order and place.
        spacing: mm per axis that crops are resampled to; None keeps every volume's own.
        foreground: the fraction of crops that are centred on a labelled voxel; its class is drawn
            first, so that small structures come as often as large ones.
        targets: class of a volume by its id, for classification.
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
    ) -> None:
        self._store, self._ids, self._size = store, list(volume_ids), tuple(crop_size)
        self._intensity, self._seed, self._spacing = intensity, seed, spacing
        self._foreground, self._targets = foreground, targets or {}
        self._order: tuple[int, Array] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, place = divmod(number, len(self._ids))
        if self._order[0] != epoch:
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self._ids))
            self._order = (epoch, order)
        index = int(self._order[1][place])
        volume = self._store[self._ids[index]]
        rng = np.random.default_rng((self._seed, epoch, index))
        low, high, shift, scale = self._intensity.parameters(volume.row)
        image, label = self._crop(volume, rng, pad=shift)
        return {
            "image": torch.from_numpy(image),
            "label": torch.from_numpy(label),
            "target": self._targets.get(volume.volume_id, -1),
            "normalisation": torch.tensor([low, high, shift, scale], dtype=torch.float32),
            "spacing": torch.tensor(self._spacing or volume.spacing, dtype=torch.float32),
            "key": sample_key(self._seed, epoch, index),
        }

    def _crop(self, volume: Volume, rng: np.random.Generator, pad: float) -> tuple[Array, Array]:
        native = self._native_size(volume)
        size = [min(n, extent) for n, extent in zip(native, volume.shape, strict=True)]
        start = self._start(volume, size, rng)
        image = volume.crop(start, size).astype(np.float32)
        found = volume.label_crop(start, size)
        label = np.zeros((1, *size), dtype=np.int64) if found is None else found.astype(np.int64)
        before = [int(rng.integers(n - s + 1)) for n, s in zip(native, size, strict=True)]
        image = _pad(image, before, native, pad)
        label = _pad(label, before, native, 0)
        return resample(image, self._size, order=1), resample(label, self._size, order=0)

    def _native_size(self, volume: Volume) -> tuple[int, ...]:
        if self._spacing is None:
            return self._size
        sizes = zip(self._size, self._spacing, volume.spacing, strict=True)
        return tuple(max(1, round(n * wanted / own)) for n, wanted, own in sizes)

    def _start(
        self, volume: Volume, size: Sequence[int], rng: np.random.Generator
    ) -> tuple[int, ...]:
        room = [extent - n for n, extent in zip(size, volume.shape, strict=True)]
        free = [int(rng.integers(r + 1)) for r in room]
        if not any(room) or rng.random() >= self._foreground:
            return tuple(free)
        label = volume.label()
        classes = np.unique(label[label > 0]) if label is not None else np.empty(0)
        if label is None or not len(classes):
            return tuple(free)
        places = np.argwhere(label[0] == rng.choice(classes))
        centre = places[rng.integers(len(places))]
        return tuple(
            int(np.clip(c - n // 2, 0, r)) for c, n, r in zip(centre, size, room, strict=True)
        )


def _pad(array: Array, before: Sequence[int], size: Sequence[int], value: float) -> Array:
    widths = [(0, 0)]
    for first, target, extent in zip(before, size, array.shape[1:], strict=True):
        widths.append((first, target - extent - first))
    return np.pad(array, widths, constant_values=value) if any(map(any, widths)) else array


class _From(Sampler[int]):
    """Sample numbers from the first one on; what a resumed run skips costs nothing."""

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def loader(
    source: CropSource, batch_size: int, first_step: int, steps: int, workers: int
) -> DataLoader[Any]:
    """Batches of steps ``first_step`` to ``steps - 1`` of a run."""
    return DataLoader(
        source,
        batch_size=batch_size,
        sampler=_From(first_step * batch_size, steps * batch_size),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )


def normalised(batch: Batch) -> Tensor:
    """The batch's images under their intensity contract: float32 (B, C, *crop), on its device."""
    image = batch["image"]
    low, high, shift, scale = (
        batch["normalisation"].reshape(-1, 4, *[1] * (image.ndim - 1)).unbind(1)
    )
    return (image.clamp(low, high) - shift) * scale
