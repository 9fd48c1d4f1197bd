"""Whether a cache of a run's crops is worth its disk, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medssl.store import Store
from medssl.store.intensity import IntensityContract
from medssl.training.cache import GAIN, foreground_box, least_box
from medssl.training.catalogue import Catalogue, catalogue
from medssl.training.crops import Plane, Shape, touched, wire_dtype
from medssl.training.volumes import StoredVolumes, bright

Array = npt.NDArray[Any]
Choice = Literal["off", "raw", "compressed"]

SMALL = 2**30  # bytes of a store that stays in memory anyway
_LOOKED_AT = 16  # volumes whose foreground is measured


@dataclass(frozen=True)
class CachePlan:
    """What a run's cache will be.

    Attributes:
        choice: "off", "raw" or "compressed".
        bytes: about what it will take; of compressed chunks the most.
        reason: why, a sentence.
    """

    choice: Choice
    bytes: int
    reason: str


def cache_plan(
    store: Store,
    volume_ids: Sequence[str],
    crop_size: Sequence[int],
    intensity: IntensityContract,
    *,
    spacing: Sequence[float] | None = None,
    plane: Plane | None = None,
    dtype: str | None = None,
    cache: Literal["auto", "off", "raw", "compressed"] = "auto",
) -> CachePlan:
    """Choose a cache; depends on store and configuration alone, never on the machine.

    Args:
        store: where the volumes are.
        volume_ids: which of them.
        crop_size, intensity, spacing, plane, dtype: as of :class:`CropSource`.
        cache: "auto" to choose, or what was chosen.

    Raises:
        MedsslError: STORE_CORRUPT and what reading the manifest raises.
    """
    if cache == "off":
        return CachePlan("off", 0, "Crops are read from the store, as cache=off asks.")
    volumes = catalogue(store, volume_ids, intensity)
    wanted = None if spacing is None else tuple(float(v) for v in spacing)
    shape = Shape(tuple(crop_size), wanted, plane=plane)
    stored = _stored_bytes(volumes)
    resampled = 0
    if plane is None:
        resampled = int(touched(volumes, shape)[1].sum())
    if cache == "auto":
        if volumes.dims == 2:
            return CachePlan("off", 0, "2D images are small: they are read from the store.")
        if not resampled and stored <= SMALL:
            reason = f"The volumes take {_size(stored)}: they stay in memory as they are."
            return CachePlan("off", 0, reason)
    share = _foreground_share(volumes, shape)
    kept = share if share <= GAIN or resampled else 1.0
    needed = _cached_bytes(volumes, shape, wire_dtype(volumes, shape, dtype).itemsize) * kept
    layout: Choice = "compressed" if cache == "compressed" else "raw"
    if resampled:
        reason = (
            f"{resampled} of {len(volumes)} volumes are resampled once instead of in every crop, "
            f"and cut to their foreground ({share:.0%} of them)."
        )
    elif share > GAIN and cache == "auto":
        reason = f"The foreground fills {share:.0%} of the volumes: cutting to it gains nothing."
        return CachePlan("off", 0, reason)
    else:
        reason = f"The foreground fills {share:.0%} of the volumes: fewer bytes are read."
    if layout == "compressed":
        reason += " Compressed chunks take less disk, and reading them more time."
    else:
        reason += f" cache=compressed takes less disk than {_size(needed)}, and reads slower."
    return CachePlan(layout, round(needed), reason)


def _stored_bytes(volumes: Catalogue) -> int:
    sizes = np.array([np.dtype(name.decode()).itemsize for name in volumes.dtypes])
    return int((volumes.shape.prod(axis=1, dtype=np.int64) * sizes).sum() * volumes.channels)


def _cached_bytes(volumes: Catalogue, shape: Shape, itemsize: int) -> float:
    voxels = volumes.shape.prod(axis=1, dtype=np.float64)
    if shape.spacing is not None and shape.plane is None:
        voxels = voxels * (volumes.spacing / np.array(shape.spacing)).prod(axis=1)
    return float(voxels.sum() * volumes.channels * itemsize)


def _foreground_share(volumes: Catalogue, shape: Shape) -> float:
    """Of the voxels of some volumes, evenly spread over the store."""
    stored = StoredVolumes(volumes, labels=False, places=False)
    inside = total = 0
    some = np.unique(np.linspace(0, len(volumes) - 1, _LOOKED_AT).astype(int))
    for index in some.tolist():
        image, _ = stored.arrays(index)
        mask = bright(image, float(volumes.bright[index]))
        box = foreground_box(mask, least_box(shape, volumes.spacing[index].tolist()))
        inside += math.prod(last - first for first, last in box)
        total += mask.size
    return inside / total


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"
