"""One raw array per volume: a ``.npy`` file, opened as a memory map: a crop reads its own bytes."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_INTEGERS = (np.uint8, np.int16, np.uint16, np.int32)


def smallest_lossless(array: Array) -> Array:
    """The array in the smallest dtype that keeps every value: an integer type, else float32/64."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    values = np.asarray(array)
    if np.issubdtype(values.dtype, np.floating) and not np.array_equal(values, np.rint(values)):
        with np.errstate(over="ignore"):  # an overflow is seen by the comparison
            narrow = values.astype(np.float32)
        return narrow if np.array_equal(narrow.astype(values.dtype), values) else values
    low, high = values.min(), values.max()
    for kind in _INTEGERS:
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return values.astype(kind, copy=False)
    return values


def write_array(path: Path, array: Array) -> str:
    """Write a C-ordered ``.npy`` file; returns the SHA-256 of its bytes."""
    array = np.ascontiguousarray(array)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    voxels = array.reshape(-1).view(np.uint8).data
    digest = hashlib.sha256(head.getvalue())
    digest.update(voxels)
    with path.open("wb") as stream:
        stream.write(head.getvalue())
        stream.write(voxels)
    return digest.hexdigest()


def read_array(path: Path) -> Array:
    """Open a ``.npy`` file as a read-only memory map."""
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
