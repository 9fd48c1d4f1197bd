"""MedMNIST ``.npz`` archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.store.records import LabelValue

Array = npt.NDArray[Any]

MEDMNIST_SPLITS = {"train": "train", "val": "validation", "test": "test"}
SPLIT_FOLDERS = {**MEDMNIST_SPLITS, "validation": "validation"}


@dataclass(frozen=True)
class ArchivePart:
    """One split of a MedMNIST archive.

    Attributes:
        split: "train", "validation" or "test".
        images: (image, channel, row, column) or (image, channel, x, y, z).
        labels: per image, by label name.
    """

    split: str
    images: Array
    labels: list[dict[str, LabelValue]]


def read_medmnist(path: Path) -> list[ArchivePart]:
    """Read the arrays ``train_images``, ``train_labels``, ``val_...``, ``test_...``.

    (N, row, column) and (N, row, column, 3) are 2D, (N, x, y, z) is 3D. A label array of one
    column is called ``class``; of more columns ``class_0``, ``class_1``, ... The archive states no
    geometry.

    Raises:
        MedsslError: ARCHIVE_INVALID, DECODE_FAILED, VOXELS_INVALID.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    # A damaged zip, or an array that would need pickle.
    except Exception as error:
        raise MedsslError("DECODE_FAILED", f"Archive: {type(error).__name__}") from None
    parts = []
    for key, split in MEDMNIST_SPLITS.items():
        if f"{key}_images" in arrays:
            images = _images(arrays[f"{key}_images"])
            parts.append(ArchivePart(split, images, _labels(arrays.get(f"{key}_labels"), images)))
    if not parts:
        raise MedsslError("ARCHIVE_INVALID", "The archive has no train, val or test images")
    return parts


def _images(array: Array) -> Array:
    if array.ndim not in (3, 4) or not (
        np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    ):
        raise MedsslError("ARCHIVE_INVALID", "The images are not 2D or 3D arrays of numbers")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise MedsslError("VOXELS_INVALID", "The images hold NaN or infinity")
    colour = array.ndim == 4 and array.shape[-1] == 3
    return np.moveaxis(array, -1, 1) if colour else array[:, None]


def _labels(array: Array | None, images: Array) -> list[dict[str, LabelValue]]:
    if array is None:
        return [{} for _ in images]
    if len(array) != len(images) or array.ndim > 2:
        raise MedsslError("ARCHIVE_INVALID", "There is not one label row per image")
    columns = array.reshape(len(array), -1)
    if columns.shape[1] == 1:
        return [{"class": row[0].item()} for row in columns]
    return [{f"class_{i}": value.item() for i, value in enumerate(row)} for row in columns]
