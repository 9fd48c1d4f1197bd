"""PNG, JPEG and TIFF as 2D images: every sample as it was stored, or a typed refusal.

Pillow is asked for what it decodes exactly, and only after the file itself was asked what is in
it: left to itself Pillow narrows 16-bit colour to 8 bits, leaves 16-bit "white is zero" inverted,
stretches 2-bit and 4-bit grey, turns some TIFFs twice, and shows the first of several pages.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from medssl.errors import MedsslError

Array = npt.NDArray[Any]

_ORIENTATION = 274
# TIFF 6.0, and its extension for sample formats.
_SUBFILE, _BITS, _PHOTOMETRIC, _EXTRA, _FORMAT, _SUB_IFDS = 254, 258, 262, 338, 339, 330
_GREY = ("1", "L", "I;16", "I;16B", "I", "F")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
# (sample format, bits) that Pillow reads without loss: unsigned 1, signed 2, float 3.
_EXACT = ((1, 1), (1, 8), (1, 16), (2, 16), (2, 32), (3, 32))
_MOST_PAGES = 4096


def read_picture(path: Path, kind: str, label: bool = False) -> list[Array]:
    """Read a picture file, all of its pages.

    Args:
        path: the file.
        kind: "png", "jpeg" or "tiff".
        label: read it as a label map: grey or palette indices, unchanged; not from a JPEG, whose
            values are not those that were written.

    Returns:
        page by page (channel, row, column), 1 channel grey or 3 channels RGB, turned as EXIF says
        (a TIFF that asks for it is refused): uint8 or uint16; of a TIFF also int32 and float32.

    Raises:
        MedsslError: DECODE_FAILED, PIXEL_FORMAT_UNSUPPORTED, COLOUR_UNSUPPORTED, LABEL_INVALID,
            TIME_SERIES_UNSUPPORTED (animations, pages that do not belong together),
            VOXELS_INVALID.
    """
    name = kind.upper()
    try:
        with warnings.catch_warnings():
            # Pillow only warns of what it does not understand, such as damaged EXIF data.
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            if kind == "png":
                with Image.open(path, formats=[name]) as image:
                    image.verify()  # the checksum of every chunk, which loading does not compare
            with Image.open(path, formats=[name]) as image:
                return list(_READERS[kind](image, label))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise MedsslError("DECODE_FAILED", f"{name}: too many pixels") from None
    # What Pillow raises on damaged files.
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, EOFError, TypeError,
            KeyError, IndexError, OverflowError, RuntimeError, Warning) as error:  # fmt: skip
        raise MedsslError("DECODE_FAILED", f"{name}: {type(error).__name__}") from None


def read_png(path: Path, label: bool = False) -> Array:
    """The one image of a PNG, as :func:`read_picture`."""
    return read_picture(path, "png", label)[0]


def _refuse(what: str, code: str = "PIXEL_FORMAT_UNSUPPORTED") -> MedsslError:
    return MedsslError(code, what)


def _png(image: Any, label: bool) -> Iterator[Array]:
    # Bit depth and colour type of IHDR: bytes 24 and 25 of every PNG (PNG 11.2.2).
    image.fp.seek(24)
    depth, colour = image.fp.read(2)
    if getattr(image, "n_frames", 1) > 1:
        raise _refuse("An animated PNG", "TIME_SERIES_UNSUPPORTED")
    if label and colour not in (0, 3):
        raise _refuse("A label map is a grey or palette PNG", "LABEL_INVALID")
    if not label and (colour not in (0, 2) or (colour == 2 and depth == 16)):
        raise _refuse(f"A PNG of colour type {colour} and {depth} bits")
    if "transparency" in image.info and not label:
        raise _refuse("A PNG with transparency")
    array = _upright(image)
    # Pillow stretches grey of 2 and 4 bits to 0..255.
    array = array // (255 // (2**depth - 1)) if colour == 0 and depth in (2, 4) else array
    yield _channel_first(array)


def _jpeg(image: Any, label: bool) -> Iterator[Array]:
    if label:
        raise _refuse("A JPEG does not keep label values", "LABEL_INVALID")
    if getattr(image, "n_frames", 1) > 1:
        raise _refuse("Several images in one JPEG", "TIME_SERIES_UNSUPPORTED")
    if image.mode not in ("L", "RGB"):
        raise _refuse(f"A JPEG of mode {image.mode}")
    yield _channel_first(_upright(image))


def _tiff(image: Any, label: bool) -> Iterator[Array]:
    pages = image.n_frames
    if pages > _MOST_PAGES:
        raise _refuse(f"More than {_MOST_PAGES} pages", "TIME_SERIES_UNSUPPORTED")
    if label and pages > 1:
        raise _refuse("A label map of several pages", "LABEL_INVALID")
    kinds = set()
    for page in range(pages):
        image.seek(page)
        kinds.add((image.size, _check_page(image, label)))
    if len(kinds) > 1:
        raise _refuse("The pages differ in size or kind", "TIME_SERIES_UNSUPPORTED")
    for page in range(pages):
        image.seek(page)
        array = _samples(image)
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise _refuse("The image holds NaN or infinity", "VOXELS_INVALID")
        yield _channel_first(array)


def _check_page(image: Any, label: bool) -> tuple[str, int, int]:
    """Whether Pillow keeps every sample of a TIFF page; what kind of page it is."""
    tags = image.tag_v2
    bits, formats = set(tags.get(_BITS, (1,))), set(_tuple(tags.get(_FORMAT, (1,))))
    photometric = tags.get(_PHOTOMETRIC, -1)
    if tags.get(_SUBFILE, 0) & 0b101 or _SUB_IFDS in tags:
        raise _refuse("A TIFF with smaller copies or masks", "TIME_SERIES_UNSUPPORTED")
    if tags.get(_ORIENTATION, 1) != 1:  # Pillow turns some of these itself, and some not
        raise _refuse("A TIFF that is to be turned or mirrored")
    if _EXTRA in tags:
        raise _refuse("A TIFF with transparency or more samples")
    if len(bits) != 1 or len(formats) != 1:
        raise _refuse("A TIFF whose channels differ")
    depth, sample = bits.pop(), formats.pop()
    if (sample, depth) not in _EXACT:
        raise _refuse(f"A TIFF of {depth} bits, sample format {sample}")
    if label and not (photometric in (_BLACK_IS_ZERO, _PALETTE) and sample == 1):
        raise _refuse("A label map is a grey or palette TIFF of whole numbers", "LABEL_INVALID")
    if photometric == _RGB and depth == 8 and image.mode == "RGB":
        return "RGB", depth, sample
    if photometric == _WHITE_IS_ZERO and (sample, depth) not in ((1, 1), (1, 8)):
        raise _refuse("A TIFF where white is zero, of more than 8 bits")
    grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and image.mode in _GREY
    if not grey and not (label and image.mode == "P"):
        raise _refuse(f"A TIFF of mode {image.mode}, photometric interpretation {photometric}")
    return "grey", depth, sample


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _upright(image: Any) -> Array:
    """The samples, turned and mirrored as EXIF says they are to be seen.

    Raises:
        MedsslError: PIXEL_FORMAT_UNSUPPORTED where it says what EXIF does not define.
    """
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation not in range(1, 9):
        raise _refuse("An orientation that EXIF does not define")
    return _samples(ImageOps.exif_transpose(image))


def _samples(image: Any) -> Array:
    array = np.array(image)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.astype(np.uint8) if array.dtype == bool else array


def _channel_first(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, -1, 0)) if array.ndim == 3 else array[None]


_READERS: dict[str, Callable[[Any, bool], Iterator[Array]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "tiff": _tiff,
}
