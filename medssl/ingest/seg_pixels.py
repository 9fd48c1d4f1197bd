"""Stored pixels of segmentation frames, one bit a pixel or more, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import UID, ImplicitVRLittleEndian

from medssl.errors import MedsslError
from medssl.ingest.tags import value, whole

Array = npt.NDArray[Any]


class FramePixels:
    """The frames of one data set.

    Args:
        data: with its pixels.
        count: number of frames.
        shape: (rows, columns).

    Raises:
        MedsslError: FILE_TRUNCATED, DECODER_MISSING, DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """

    def __init__(self, data: pydicom.Dataset, count: int, shape: tuple[int, int]) -> None:
        self._data, self._count, self._shape = data, count, shape
        stored = value(data, "PixelData")
        if not isinstance(stored, bytes):
            raise MedsslError("FILE_TRUNCATED", "The header is there and the pixels are not")
        bits = whole(data, "BitsAllocated")
        syntax = _decodable(data)
        expected = (count * shape[0] * shape[1] * bits + 7) // 8
        if not syntax.is_encapsulated and len(stored) < expected:
            raise MedsslError("FILE_TRUNCATED", f"{len(stored)} of {expected} bytes are there")
        self._packed = bits == 1 and not syntax.is_encapsulated

    def frames(self, indices: Sequence[int] | None) -> Iterator[Array]:
        """The frames asked for, or all: int32 (row, column).

        Raises:
            MedsslError: DECODE_FAILED.
        """
        wanted = range(self._count) if indices is None else indices
        found = self._unpacked(wanted) if self._packed else self._decoded(wanted)
        for _ in wanted:
            try:
                pixels = np.asarray(next(found), dtype=np.int32)
            except (KeyboardInterrupt, SystemExit):
                raise
            # A damaged stream makes the decoders raise whatever they like; a panic in one written
            # in Rust is no Exception.
            except BaseException as error:
                raise MedsslError("DECODE_FAILED", f"Pixels: {type(error).__name__}") from None
            if pixels.shape != self._shape:
                raise MedsslError("DECODE_FAILED", "The pixels do not have their stated shape")
            yield pixels

    def _decoded(self, indices: Sequence[int]) -> Iterator[Array]:
        yield from iter_pixels(self._data, indices=indices, raw=True)

    def _unpacked(self, indices: Sequence[int]) -> Iterator[Array]:
        """One bit a pixel, the lowest bit first, one frame right after the other (PS3.5 8.1.1).
        pydicom 3.0 reads too few bytes of a frame that does not start at a byte."""
        stored = np.frombuffer(self._data.PixelData, np.uint8)
        size = self._shape[0] * self._shape[1]
        for index in indices:
            byte, bit = divmod(index * size, 8)
            bits = np.unpackbits(stored[byte : byte + (bit + size + 7) // 8], bitorder="little")
            yield bits[bit : bit + size].reshape(self._shape)


def _decodable(data: pydicom.Dataset) -> UID:
    """The transfer syntax, noted in ``data`` where the file states none."""
    data.ensure_file_meta()
    if "TransferSyntaxUID" not in data.file_meta:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    syntax = UID(str(data.file_meta.TransferSyntaxUID))
    try:
        # Where single bits lie in big-endian words is not agreed on.
        available = get_decoder(syntax).is_available and syntax.is_little_endian
    except (NotImplementedError, ValueError):
        available = False
    if not available:
        raise MedsslError("DECODER_MISSING", "No decoder for its transfer syntax")
    return syntax
