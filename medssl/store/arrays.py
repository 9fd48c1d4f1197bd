"""One raw array per volume: a ``.npy`` file, opened as a memory map: a crop reads its own bytes.

Beside them, for caches alone, compressed chunks (blosc2, the optional extra ``compressed``).
"""

from __future__ import annotations

import functools
import hashlib
import io
import mmap
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError

Array = npt.NDArray[Any]

_HEAD = 128  # bytes of a header of up to five axes, its padding included
OPEN_MAPS = 256  # each holds a file descriptor, and processes often may have 1024
COMPRESSED = ".b2nd"

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


class OpenArrays:
    """Arrays that stay open in this process, at most ``limit`` of them; the least used go first.

    Parsing the header and mapping the file take longer than a small crop does.
    """

    def __init__(self, limit: int = OPEN_MAPS) -> None:
        self._limit = limit
        self._open: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, path: str) -> Any:
        """As :func:`open_array`."""
        found = self._open.get(path)
        if found is None:
            found = open_array(path)
            self._open[path] = found
            if len(self._open) > self._limit:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(path)
        return found


def open_array(path: str) -> Any:
    """The array of a ``.npy`` or ``.b2nd`` file, read-only.

    Args:
        path: of the file.

    Returns:
        a numpy array over the file's map, or what reads slices of compressed chunks.

    Raises:
        MedsslError: STORE_CORRUPT where the file is missing or not what its header says;
            CONFIG_INVALID where it is compressed and blosc2 is not installed.
    """
    return _open_compressed(path) if path.endswith(COMPRESSED) else _map(path)


def _map(path: str) -> Array:
    """As :func:`read_array`, without what a Python file and numpy's memmap class cost: crops of
    very many volumes open one each."""
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            start = os.pread(fd, _HEAD, 0)
            memory = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        shape, dtype, offset = _parse_header(start)
        return np.ndarray(shape, dtype, memory, offset)
    except (OSError, ValueError, KeyError, SyntaxError, TypeError):
        raise MedsslError(
            "STORE_CORRUPT",
            "An array is missing, cut short or damaged",
            where=Path(path).stem,
            fix="Restore it from a backup or ingest again.",
        ) from None


@functools.lru_cache(maxsize=4096)
def _parse_header(start: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and place of the voxels by a file's first bytes, which are all header: volumes
    of one scanner often share them."""
    size = int.from_bytes(start[8:10], "little")
    if start[:8] != b"\x93NUMPY\x01\x00" or 10 + size > _HEAD:
        raise ValueError("not a file of ours")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(start[8 : 10 + size]))
    if fortran or dtype.hasobject:
        raise ValueError("the array is not plain and C-ordered")
    return shape, dtype, 10 + size


def write_compressed(path: Path, array: Array, chunk: Sequence[int]) -> None:
    """Write (channel, *spatial) as compressed chunks that are read one by one, losing nothing.

    Args:
        path: of the file, ending in ``.b2nd``.
        array: the voxels.
        chunk: spatial voxels of a chunk, such as those of a crop.

    Raises:
        MedsslError: CONFIG_INVALID where blosc2 is not installed.
    """
    blosc2 = _blosc2()
    array = np.ascontiguousarray(array)
    chunks = (1, *(min(int(c), n) for c, n in zip(chunk, array.shape[1:], strict=True)))
    blocks = (1, *(min(32, c) for c in chunks[1:]))
    settings = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "nthreads": 1}
    blosc2.asarray(
        array, chunks=chunks, blocks=blocks, urlpath=str(path), mode="w", cparams=settings
    )


def _open_compressed(path: str) -> Any:
    """What reads slices of compressed chunks: ``[...]`` gives numpy arrays, in one thread."""
    blosc2 = _blosc2()
    try:
        return blosc2.open(path, mode="r", mmap_mode="r", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError):
        raise MedsslError(
            "STORE_CORRUPT",
            "A compressed array is missing or damaged",
            where=Path(path).stem,
            fix="Remove the cache; it is made anew.",
        ) from None


def _blosc2() -> Any:
    try:
        import blosc2
    except ImportError:
        raise MedsslError(
            "CONFIG_INVALID",
            "Compressed chunks need blosc2, which is not installed",
            where="cache",
            fix="Run `pip install medssl[compressed]`, or use cache=raw.",
        ) from None
    return blosc2


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
