"""Stored pixels of DICOM slices, as the values they stand for."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.headers import SliceHeader

if TYPE_CHECKING:
    import pydicom
    from pydicom.uid import UID

Array = npt.NDArray[Any]

MOST_COMPRESSED = 1000
"""Decoded bytes a compressed byte may stand for; scans are compressed 2 to 20 times."""
SLACK_BYTES = 2**20
"""Small pictures of one value compress further."""


class SliceReader:
    """Decodes slices. It keeps the pixels of the file last read, so that a file of many slices is
    read once when they are asked for one after the other."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._pictures: Array = np.empty((0, 0, 0))

    def read(self, header: SliceHeader) -> Array:
        """Decode one slice.

        ``stored * Rescale Slope + Rescale Intercept`` (DICOM PS3.3 C.11.1.1.2). MONOCHROME1 only
        says that low values are shown bright (PS3.3 C.7.6.3.1.2); the values of slices keep their
        meaning, so they are not inverted. Those of radiographs are.

        Returns:
            (row, column): an integer type where slope and intercept are whole numbers, else
            float32.

        Raises:
            MedsslError: FILE_UNREADABLE, FILE_TRUNCATED, DECODER_MISSING, DECODE_FAILED,
                PIXELS_TOO_LARGE, PIXEL_FORMAT_UNSUPPORTED, DICOM_TAG_INVALID.
        """
        if header.path != self._path:
            self._pictures, self._path = _decode(header), header.path
        row, column = header.tile
        rows, columns = header.pose.shape
        tile = self._pictures[header.frame, row : row + rows, column : column + columns]
        return rescaled(tile, header)


def read_plain(headers: Sequence[SliceHeader]) -> Array | None:
    """All slices of a stack at once, where each is a file of plain pixels like the others.

    Returns:
        (slice, row, column) as :meth:`SliceReader.read` gives them, or None where anything is not
        so: then slice by slice tells what.

    Raises:
        MedsslError: PIXEL_FORMAT_UNSUPPORTED.
    """
    first = headers[0]
    kinds = {
        (h.kind, h.frames, h.tile, h.picture, h.bits_stored, h.signed, h.slope, h.intercept)
        for h in headers
    }
    if len(kinds) > 1 or first.kind != "classic" or first.raw is None or first.inverted:
        return None
    allocated = first.raw[2]
    wanted = (math.prod(first.picture) * allocated // 8, allocated)
    if any(header.raw is None or header.raw[1:] != wanted for header in headers):
        return None
    stack = np.empty((len(headers), *first.picture), _kind_of(allocated, first.signed))
    for header, picture in zip(headers, stack, strict=True):
        if header.raw is None or not _filled(header.path, header.raw[0], picture):
            return None
    if dirty(stack, first, allocated):
        return None
    return rescaled(stack, first)


def _filled(path: Path, offset: int, picture: Array) -> bool:
    """Read a picture's bytes from a place in a file; whether they were all there."""
    left = picture.reshape(-1).view(np.uint8).data
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while left and (count := os.preadv(handle, [left], offset)):
            left, offset = left[count:], offset + count
    finally:
        os.close(handle)
    return not left


def rescaled(stored: Array, header: SliceHeader) -> Array:
    """Stored values of a slice, or of slices that share its header, as what they stand for."""
    stored = _true_values(stored, header.bits_stored, header.signed)
    if header.inverted:
        low, high = _range(header.bits_stored, header.signed)
        stored = (low + high - stored.astype(np.int64)).astype(stored.dtype)
    slope, intercept = header.slope, header.intercept
    if slope == 1 and intercept == 0:
        return stored
    if float(slope).is_integer() and float(intercept).is_integer():
        small = header.bits_stored <= 16 and abs(slope) < 2**14 and abs(intercept) < 2**30
        return stored.astype(np.int32 if small else np.int64) * int(slope) + int(intercept)
    return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def _kind_of(allocated: int, signed: bool) -> np.dtype[Any]:
    return np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")


def _plain(header: SliceHeader, offset: int, length: int, allocated: int) -> Array:
    """The pictures of a file with plain pixels: (frame, row, column)."""
    _need_length(header, allocated, length)
    pictures = np.empty((header.frames, *header.picture), _kind_of(allocated, header.signed))
    if not _filled(header.path, offset, pictures):
        raise MedsslError("FILE_TRUNCATED", "The file is shorter than when its header was read")
    if dirty(pictures, header, allocated):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "There is something above the stored bits")
    return pictures


def _decode(header: SliceHeader) -> Array:
    """All pictures of the slice's file: (frame, row, column)."""
    if header.raw is not None:
        return _plain(header, *header.raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they can quote values
        data, stored = open_pixels(header.path)
        syntax = transfer_syntax(data)
        if syntax.is_encapsulated:
            need_decoder(syntax)
            _need_plausible_size(data, header, len(stored))
        else:
            allocated = int(data.BitsAllocated)
            _need_length(header, allocated, len(stored))
            order = "<" if syntax.is_little_endian else ">"
            count = header.frames * math.prod(header.picture)
            raw = np.frombuffer(data.PixelData, f"{order}u{allocated // 8}", count=count)
            if dirty(raw, header, allocated):
                text = "There is something above the stored bits"
                raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", text)
        try:
            array = np.asarray(data.pixel_array)
        except (KeyboardInterrupt, SystemExit):
            raise
        # A damaged stream makes the decoders raise whatever they like; a panic in one written in
        # Rust is no Exception.
        except BaseException as error:
            raise MedsslError("DECODE_FAILED", f"Pixels: {type(error).__name__}") from None
    expected = (header.frames, *header.picture)
    if array.shape != (expected if header.frames > 1 else expected[1:]):
        raise MedsslError("DECODE_FAILED", "The pixels do not have the shape the header states")
    return array.reshape(expected)


def open_pixels(path: Path) -> tuple[pydicom.Dataset, bytes]:
    """The data set and its Pixel Data as stored."""
    import pydicom

    try:
        data = pydicom.dcmread(path, force=True)
        stored = data.get("PixelData")
    except Exception as error:
        raise MedsslError("FILE_UNREADABLE", f"Not parsable: {type(error).__name__}") from None
    if not isinstance(stored, bytes):
        raise MedsslError("FILE_TRUNCATED", "The header is there and the pixels are not")
    return data, stored


def transfer_syntax(data: pydicom.Dataset) -> UID:
    """The file's transfer syntax; that of DICOM without a stated one, noted in ``data``.

    Raises:
        MedsslError: DICOM_TAG_INVALID where it is none of the standard's.
    """
    from pydicom.uid import UID, ImplicitVRLittleEndian

    data.ensure_file_meta()
    if "TransferSyntaxUID" not in data.file_meta:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    syntax = UID(str(data.file_meta.TransferSyntaxUID))
    if not syntax.is_transfer_syntax or syntax.is_private:
        raise MedsslError("DICOM_TAG_INVALID", "The transfer syntax is none of DICOM's")
    return syntax


def need_decoder(syntax: UID) -> None:
    """Refuse pixels that nothing installed decodes.

    Raises:
        MedsslError: DECODER_MISSING.
    """
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        raise MedsslError(
            "DECODER_MISSING",
            f"No decoder for transfer syntax {syntax}; installing `medssl[jpeg]` adds one",
        )


def _need_plausible_size(data: pydicom.Dataset, header: SliceHeader, length: int) -> None:
    """Refuse to make room for what a few bytes can hardly have been compressed from."""
    decoded = header.frames * math.prod(header.picture) * (int(data.BitsAllocated) // 8)
    if decoded > SLACK_BYTES + MOST_COMPRESSED * length:
        raise MedsslError("PIXELS_TOO_LARGE", f"{decoded} bytes of pixels from {length}")


def _need_length(header: SliceHeader, allocated: int, length: int) -> None:
    """Uncompressed pixels are exactly as long as the header says, even-padded."""
    expected = header.frames * math.prod(header.picture) * (allocated // 8)
    if length < expected:
        raise MedsslError("FILE_TRUNCATED", f"{length} of {expected} bytes of pixels are there")
    if length > expected + expected % 2:
        raise MedsslError("DECODE_FAILED", f"{length} bytes of pixels where {expected} belong")


def dirty(stored: Array, header: SliceHeader, allocated: int) -> bool:
    """Whether there is something above Bits Stored (an overlay, or a wrong tag).

    DICOM PS3.5 section 8.1.1 gives those bits no meaning any more; empty bits and a copy of the
    sign are unmistakable, anything else could as well be a value wider than the header says.
    """
    bits = header.bits_stored
    if bits == allocated:
        return False
    words = stored.view(stored.dtype.str.replace("i", "u"))
    high = words >> bits
    if not high.any():
        return False
    ones = (1 << (allocated - bits)) - 1
    return not header.signed or not np.array_equal(high, ((words >> (bits - 1)) & 1) * ones)


def _range(bits: int, signed: bool) -> tuple[int, int]:
    """The lowest and the highest value that can be stored."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _true_values(array: Array, bits: int, signed: bool) -> Array:
    """Refuse values wider than Bits Stored, and extend the sign where it was not.

    Signed values are two's complement within Bits Stored (DICOM PS3.5 section 8.1.1).
    """
    if not np.issubdtype(array.dtype, np.integer):
        raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", "Stored values are not integers")
    low, high = _range(bits, signed)
    least, most = int(array.min()), int(array.max())
    if low <= least and most <= high:
        return array
    if signed and least >= 0 and most < 1 << bits:
        wide = array.astype(np.int64)
        return np.where(wide > high, wide - (1 << bits), wide)
    raise MedsslError("PIXEL_FORMAT_UNSUPPORTED", f"Values do not fit in the {bits} bits stated")
