"""Writing the arrays of one volume, apart from the store they will be part of.

Worker processes do this, several at once; the store's writer then takes the files over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.store.arrays import smallest_lossless, write_array
from medssl.store.grid import spacing_of, to_canonical
from medssl.store.intensity import statistics

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Written:
    """Arrays that lie on disk, and what the manifest says of them. Plain data throughout.

    Attributes:
        array: name of the file of the voxels in its folder.
        label: that of the label map, "" where there is none.
        columns: of the manifest.
        label_values: the values that occur in the label map, without 0.
    """

    array: str
    label: str
    columns: dict[str, Any]
    label_values: list[int] = field(default_factory=list)


def write_volume(
    folder: Path,
    stem: str,
    array: Array,
    affine: Array | None,
    label: Array | None = None,
    pixel_spacing: tuple[float, float] | None = None,
) -> Written:
    """Write one volume, reoriented to closest RAS+, in the smallest lossless dtype.

    Args:
        folder: where; files of the same name are overwritten.
        stem: of the file names.
        array: (channel, x, y, z) with ``affine``, or (channel, row, column) without.
        affine: 4x4, voxel to RAS mm; None for a 2D image.
        label: (x, y, z) or (1, x, y, z) (2D: (row, column)) on the same grid, whole numbers.
        pixel_spacing: of a 2D image, mm between rows and between columns; 1 mm where None.

    Raises:
        MedsslError: VOXELS_INVALID, VOLUME_EMPTY, LABEL_GRID_MISMATCH, LABEL_INVALID.
        OSError: where the files cannot be written.
    """
    _check_voxels(array)
    label = None if label is None else _as_label(label, array)
    codes = ""
    flat = np.diag([*(pixel_spacing or (1.0, 1.0)), 1.0, 1.0])
    grid = flat if affine is None else np.asarray(affine, dtype=np.float64)
    stored = smallest_lossless(array)
    if affine is not None:
        if label is not None:
            label, _, _ = to_canonical(label, grid)
        stored, grid, codes = to_canonical(stored, grid)
    columns: dict[str, Any] = {
        "dims": stored.ndim - 1,
        "channels": stored.shape[0],
        "shape": [int(n) for n in stored.shape[1:]],
        "spacing": list(spacing_of(grid))[: stored.ndim - 1],
        "affine": [float(v) for v in grid.ravel()],
        "dtype": str(stored.dtype),
        **statistics(stored),
        "source_orientation": codes,
        "sha256": write_array(folder / f"{stem}.npy", stored),
        "label_sha256": "",
    }
    if label is None:
        return Written(f"{stem}.npy", "", columns)
    name = f"{stem}-label.npy"
    columns["label_sha256"] = write_array(folder / name, smallest_lossless(label))
    values = [int(value) for value in np.unique(label) if value]
    return Written(f"{stem}.npy", name, columns, values)


def _check_voxels(array: Array) -> None:
    if array.ndim not in (3, 4) or array.size == 0:
        raise MedsslError("VOLUME_EMPTY", "The image has no voxels")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise MedsslError("VOXELS_INVALID", "The image holds NaN or infinity")
    if array.min() == array.max():
        raise MedsslError("VOLUME_EMPTY", "All voxels have one value")


def _as_label(label: Array, array: Array) -> Array:
    label = label if label.ndim == array.ndim else label[None]
    if label.shape[1:] != array.shape[1:]:
        raise MedsslError(
            "LABEL_GRID_MISMATCH",
            f"The label map is {label.shape[1:]} and the image {array.shape[1:]}",
        )
    whole = np.rint(label) if np.issubdtype(label.dtype, np.floating) else label
    if not np.array_equal(whole, label) or whole.min() < 0 or whole.max() > 65535:
        raise MedsslError("LABEL_INVALID", "Label values are whole and 0 to 65535")
    return whole.astype(np.uint16)
