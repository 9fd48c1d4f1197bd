"""Pixels of pictures: frame by frame, and colours as RGB."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.headers import SliceHeader
from medssl.ingest.pixels import (
    MOST_COMPRESSED,
    SLACK_BYTES,
    SliceReader,
    dirty,
    need_decoder,
    open_pixels,
    rescaled,
    transfer_syntax,
)

if TYPE_CHECKING:
    import pydicom

Array = npt.NDArray[Any]


class FrameReader(SliceReader):
    """Decodes slices as :class:`SliceReader` does, and pictures beside them.

    Of a clip one frame is held at a time. Frames are read in their order without starting anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frames: _Frames | None = None

    def read(self, header: SliceHeader) -> Array:
        """Decode one slice or picture.

        Returns:
            (row, column) as :meth:`SliceReader.read`; of a colour picture (row, column, 3), RGB
            uint8, uint16 where a palette has colours of 16 bits.

        Raises:
            MedsslError: as there.
        """
        if header.kind != "picture":
            return super().read(header)
        if self._frames is None or not self._frames.holds(header):
            self._frames = _Frames(header)
        frame = self._frames.next()
        return frame if header.channels == 3 else rescaled(frame, header)


class _Frames:
    """The frames of one file from one of them on."""

    def __init__(self, header: SliceHeader) -> None:
        from pydicom.pixels import get_decoder

        self._path: Path = header.path
        self._next = header.frame
        self._palette: Array | None = None
        self._shape = header.picture if header.channels == 1 else (*header.picture, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they can quote values
            self._data, stored = open_pixels(header.path)
            syntax = transfer_syntax(self._data)
            if syntax.is_encapsulated:
                need_decoder(syntax)
            _check_length(self._data, header, len(stored))
            wanted = range(header.frame, header.frames)
            frames = get_decoder(syntax).iter_array(self._data, indices=wanted, raw=False)
            self._frames: Iterator[Array] = (array for array, _ in frames)

    def holds(self, header: SliceHeader) -> bool:
        """Whether :meth:`next` is this header's frame."""
        return header.path == self._path and header.frame == self._next

    def next(self) -> Array:
        """(row, column) or (row, column, 3)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                frame = self._coloured(next(self._frames))
            except (KeyboardInterrupt, SystemExit, MedsslError):
                raise
            # A damaged stream makes the decoders raise whatever they like; a panic in one written
            # in Rust is no Exception.
            except BaseException as error:
                raise MedsslError("DECODE_FAILED", f"Pixels: {type(error).__name__}") from None
        self._next += 1
        if frame.shape != self._shape:
            raise MedsslError("DECODE_FAILED", "A frame does not have the shape the header states")
        return frame

    def _coloured(self, frame: Array) -> Array:
        """A palette's indices as its colours; everything else as it is."""
        if self._data.PhotometricInterpretation != "PALETTE COLOR":
            return frame
        if self._palette is None:
            from pydicom.pixels import apply_color_lut

            every = np.arange(1 << int(self._data.BitsStored), dtype=frame.dtype)
            self._palette = _narrowed(apply_color_lut(every[None], self._data)[0])
        return np.asarray(self._palette[frame])


def _narrowed(palette: Array) -> Array:
    """Colours (index, 3) as uint8 where their 16 bits hold 8: in the upper byte, or in both (PS3.3
    C.7.6.3.1.6)."""
    high, low = palette >> 8, palette & 0xFF
    if palette.dtype == np.uint16 and (not low.any() or np.array_equal(high, low)):
        return high.astype(np.uint8)
    return palette


def _check_length(data: pydicom.Dataset, header: SliceHeader, length: int) -> None:
    """Refuse pixels that are not as many as the header says, or too many for what is stored."""
    from pydicom.pixels.utils import get_expected_length

    try:
        expected = int(get_expected_length(data))
    except Exception as error:
        text = f"Pixel description: {type(error).__name__}"
        raise MedsslError("DICOM_TAG_INVALID", text) from None
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        if expected > SLACK_BYTES + MOST_COMPRESSED * length:
            raise MedsslError("PIXELS_TOO_LARGE", f"{expected} bytes of pixels from {length}")
    elif length < expected:
        raise MedsslError("FILE_TRUNCATED", f"{length} of {expected} bytes of pixels are there")
    elif length > expected + expected % 2:
        raise MedsslError("DECODE_FAILED", f"{length} bytes of pixels where {expected} belong")
    elif header.channels == 1:
        allocated = int(data.BitsAllocated)
        order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
        count = header.frames * math.prod(header.picture)
        words = np.frombuffer(data.PixelData, f"{order}u{allocated // 8}", count=count)
        if dirty(words, header, allocated):
            raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "Something is above the stored bits")
