"""2D PNG images and MedMNIST ``.npz`` archives."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from medssl.errors import MedsslError
from medssl.store.records import LabelValue

Array = npt.NDArray[Any]

_GREY = ("L", "I;16")
_INDEXED = ("1", "L", "P", "I;16")
MEDMNIST_SPLITS = {"train": "train", "val": "validation", "test": "test"}
SPLIT_FOLDERS = {**MEDMNIST_SPLITS, "validation": "validation"}


def read_png(path: Path, label: bool = False) -> Array:
    """Read one PNG.

    Args:
        path: the file.
        label: read it as a label map: grey or palette indices, unchanged.

    Returns:
        (channel, row, column) uint8 or uint16, 1 channel grey or 3 channels RGB.

    Raises:
        MedsslError: DECODE_FAILED, PIXEL_FORMAT_UNSUPPORTED, LABEL_INVALID.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                mode = image.mode
                if label and mode not in _INDEXED:
                    raise MedsslError("LABEL_INVALID", "A label map is a grey or palette PNG")
                if not label and mode not in (*_GREY, "RGB"):
                    raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", f"A PNG of mode {mode}")
                if "transparency" in image.info and not label:
                    raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "A PNG with transparency")
                array = np.array(image)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise MedsslError("DECODE_FAILED", f"PNG: {type(error).__name__}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise MedsslError("DECODE_FAILED", "PNG: too many pixels") from None
    array = array.astype(np.uint8) if array.dtype == bool else array
    return np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]


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
