"""Intensity statistics of a volume, and the contract by which a network is fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from medssl.config import StrictModel

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("min", "max", "mean", "std", "p005", "p500", "p995", "fg_mean", "fg_std")

# The foreground starts this far up from the 0.5th to the 99.5th percentile.
FOREGROUND_FRACTION = 0.1
_MOST_LEVELS = 2**20  # integers that span more are sorted
_CHUNK = 2**16  # voxels counted at once: they fit in the cache

A = TypeVar("A")


def statistics(array: npt.NDArray[Any]) -> dict[str, float]:
    """Intensity statistics of one volume.

    Args:
        array: any shape, any real dtype, finite.

    Returns:
        min, max, mean, std, the 0.5th, 50th and 99.5th percentile, and mean and std of the
        foreground (voxels above a tenth of the way between the outer percentiles), clipped to
        those percentiles.
    """
    levels, counts = _histogram(np.asarray(array).ravel())
    low, middle, high = (_quantile(levels, counts, q) for q in (0.005, 0.5, 0.995))
    bright = levels > low + FOREGROUND_FRACTION * (high - low)
    if not bright.any():
        bright[:] = True
    mean, std = _moments(levels, counts)
    fg_mean, fg_std = _moments(np.clip(levels[bright], low, high), counts[bright])
    return {
        "min": float(levels[0]),
        "max": float(levels[-1]),
        "mean": mean,
        "std": std,
        "p005": low,
        "p500": middle,
        "p995": high,
        "fg_mean": fg_mean,
        "fg_std": fg_std,
    }


def _histogram(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The values that occur, float64, ascending, and how often; repeats may follow each other.

    Scans hold millions of voxels of a few thousand values, and counting is far faster than sorting.
    """
    if np.issubdtype(values.dtype, np.integer):
        low, high = int(values.min()), int(values.max())
        if high - low < _MOST_LEVELS:
            counts = np.zeros(high - low + 1, dtype=np.int64)
            for start in range(0, len(values), _CHUNK):
                part = values[start : start + _CHUNK].astype(np.int64) - low
                counts += np.bincount(part, minlength=len(counts))
            present = np.flatnonzero(counts)
            return (present + low).astype(np.float64), counts[present]
    ordered = np.sort(values.astype(np.float64))
    return ordered, np.ones(len(ordered), dtype=np.int64)


def _quantile(levels: npt.NDArray[Any], counts: npt.NDArray[Any], share: float) -> float:
    """As `numpy.percentile`: linear between the two nearest voxels in order."""
    ends = np.cumsum(counts)
    place = share * (int(ends[-1]) - 1)
    below = int(place)
    first, second = levels[np.searchsorted(ends, [below, min(below + 1, ends[-1] - 1)], "right")]
    return float(first + (second - first) * (place - below))


def _moments(levels: npt.NDArray[Any], counts: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = float(np.average(levels, weights=counts))
    return mean, float(np.sqrt(np.average((levels - mean) ** 2, weights=counts)))


class IntensityContract(StrictModel):
    """How stored intensities become a network's input: clip, shift, scale.

    ``zscore``: clip to the volume's 0.5th and 99.5th percentile, subtract its foreground mean,
    divide by its foreground standard deviation (MR, whose unit is arbitrary).
    ``window``: clip to [low, high] and map to [-1, 1] (CT, in HU).
    ``range``: map [low, high] to [-1, 1] without clipping (8-bit pictures).
    """

    scheme: Literal["zscore", "window", "range"] = "zscore"
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def for_modality(cls, modality: str) -> IntensityContract:
        """A modality's default: a wide window for CT, else zscore."""
        if modality == "CT":
            return cls(scheme="window", low=-1000.0, high=1000.0)
        return cls(scheme="zscore")

    @classmethod
    def for_volumes(cls, table: pd.DataFrame) -> IntensityContract:
        """The default of volumes by their manifest rows.

        That of the commonest modality; but where that is no scanner's (OT, XC) and the values fit
        8 bits, they are pictures or masks of one scale: the range that occurs.
        """
        modality = str(table["modality"].mode()[0])
        if modality in ("OT", "XC") and (table["dtype"] == "uint8").all():
            return cls(
                scheme="range", low=float(table["min"].min()), high=float(table["max"].max())
            )
        return cls.for_modality(modality)

    def parameters(self, stats: Mapping[str, Any]) -> tuple[float, float, float, float]:
        """(low, high, shift, scale): the input is ``(clip(x, low, high) - shift) * scale``."""
        if self.scheme == "zscore":
            scale = 1.0 / max(float(stats["fg_std"]), 1e-6 * (1.0 + abs(float(stats["fg_mean"]))))
            return float(stats["p005"]), float(stats["p995"]), float(stats["fg_mean"]), scale
        shift, scale = (self.low + self.high) / 2, 2.0 / (self.high - self.low)
        if self.scheme == "range":
            return -np.inf, np.inf, shift, scale
        return self.low, self.high, shift, scale

    def normalise(self, array: npt.NDArray[Any], stats: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Apply the contract to an array of any shape; returns float32."""
        low, high, shift, scale = self.parameters(stats)
        values = np.asarray(array, dtype=np.float32)
        return ((np.clip(values, low, high) - np.float32(shift)) * np.float32(scale)).astype(
            np.float32
        )
