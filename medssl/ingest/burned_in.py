"""Text burned into pictures: a detector of lines of characters.

Burned-in characters are thin strokes of one brightness that stand on a common baseline next to each
other. Anatomy has thin strokes too, but hardly ever several of one height and brightness in a row,
on one line to the pixel. Nothing is read: a line of characters is suspicious whatever it says.
``benchmarks/burned_in.py`` measures what is found and what is taken for text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.pieces import AROUND, Runs, white_tophat

Array = npt.NDArray[Any]

CODE = "BURNED_IN_TEXT"
SUSPICIOUS = 5
"""Characters in a line that count as text in pictures of any kind."""
CERTAIN = 7
"""And in slices of CT, MR and PT, which rarely hold text."""
CROSS_SECTIONS = frozenset({"CT", "MR", "PT"})

_HEIGHTS = (5, 64)  # of characters, pixels
_STROKE = 9  # strokes are thinner, pixels
_CONTRASTS = (0.12, 0.25, 0.5)  # strokes stand out by so much, in ranges of the picture
_BRIGHTNESS = 0.12  # characters of a line differ by less, in ranges of the picture
_BASELINE = 0.06  # their lower ends by no more than this, in heights, or by 1 pixel
_LOWEST = 0.65  # the height of small letters, in heights of capitals
_GAP = 1.5  # the widest gap, in heights: one character may be missed
_WIDEST = 3.0  # of characters that touch, in heights
_CHARACTER = 0.9  # how wide each of them is at most, in heights
_BAR = 0.25  # how wide a mere bar is, in heights
_LETTERS = 3  # pieces of a line that are no bars
_MOST = 800  # pieces that are looked at: a picture with more is noise
_PROJECTED = 32  # slices of a volume that are looked at


def text_defects(
    array: Array,
    modality: str,
    *,
    derived: bool = False,
    flagged: bool = False,
    allow: Collection[str] = (),
) -> list[str]:
    """Refuse an image that seems to hold burned-in text.

    Of a volume of CT, MR or PT only what is the same in all slices is looked at, and a longer line
    is asked for; of ``derived`` ones every slice is looked at as a picture.

    Args:
        array: (channel, row, column), or (1, x, y, z) with slices along z.
        modality: DICOM code.
        derived: the image was not acquired so: a projection, a screen.
        flagged: whether Burned In Annotation (0028,0301) is YES. NO is no proof of the contrary.
        allow: BURNED_IN_TEXT, to accept it.

    Returns:
        the code where it was accepted, else nothing.

    Raises:
        MedsslError: BURNED_IN_TEXT.
    """
    strict = modality in CROSS_SECTIONS and not derived
    found = _found(array, strict)
    if not flagged and found < (CERTAIN if strict else SUSPICIOUS):
        return []
    if CODE in allow:
        return [CODE]
    what = "The header states it" if flagged else f"A line of about {found} characters"
    raise MedsslError(CODE, what)


def _found(array: Array, strict: bool) -> int:
    if array.ndim == 3:
        return characters(array)
    if strict:
        return constant_characters(array[0])
    return max(characters(array[0, :, :, k]) for k in range(array.shape[3]))


def characters(picture: Array) -> int:
    """How many characters the longest line of text in a picture seems to have.

    Args:
        picture: (row, column) or (channel, row, column), any real type.

    Returns:
        0 for none. Lines run along rows or along columns, in bright or in dark strokes.
    """
    grey = np.asarray(picture).max(axis=0) if picture.ndim == 3 else np.asarray(picture)
    return max(_bright(grey), _bright(-grey.astype(np.float32)))


def constant_characters(volume: Array) -> int:
    """As :func:`characters`, of the text that is on all slices of (x, y, z).

    The lowest value along z leaves bright text alone, the highest dark text.
    """
    step = -(-volume.shape[2] // _PROJECTED)
    some = volume[:, :, ::step]
    return max(_bright(some.min(axis=2)), _bright(-some.max(axis=2).astype(np.float32)))


def _bright(picture: Array) -> int:
    """The characters of the longest line of bright strokes."""
    grey = picture.astype(np.float32)
    low, high = float(grey.min()), float(grey.max())
    if min(grey.shape) < 2 * _HEIGHTS[0] or not low < high:
        return 0
    grey = (grey - low) / (high - low)
    strokes = white_tophat(grey, _STROKE)
    return max(_longest(boxes) for boxes in _all_boxes(strokes, grey))


def _all_boxes(strokes: Array, grey: Array) -> Iterable[Array]:
    """Boxes around connected strokes, at each contrast, as they lie and with axes exchanged."""
    for contrast in _CONTRASTS:
        boxes = _boxes(strokes >= contrast, grey)
        yield boxes
        yield boxes[:, [2, 3, 0, 1, 4]]


def _boxes(marked: Array, grey: Array) -> Array:
    """(box, 5): first and last row, first and last column, highest value."""
    runs = Runs.of(marked[None], AROUND)
    if runs.count < _LETTERS:
        return np.empty((0, 5))
    boxes = np.column_stack([*runs.boxes(), runs.highest(grey[None])])
    ends = boxes[:, :4]
    size = np.maximum(ends[:, 1] - ends[:, 0], ends[:, 3] - ends[:, 2]) + 1
    boxes = boxes[(size >= _HEIGHTS[0]) & (size <= _WIDEST * _HEIGHTS[1])]
    return np.asarray(boxes[np.argsort(-boxes[:, 4], kind="stable")[:_MOST]])


def _longest(boxes: Array) -> int:
    """Characters of the longest chain of boxes that could be one line, from left to right."""
    tall, wide = boxes[:, 1] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 2] + 1
    boxes = boxes[(tall >= _HEIGHTS[0]) & (tall <= _HEIGHTS[1]) & (wide <= _WIDEST * tall)]
    if len(boxes) < _LETTERS:
        return 0
    boxes = boxes[np.argsort(boxes[:, 2], kind="stable")]
    top, bottom, left, right, peak = boxes.T
    tall, wide = bottom - top + 1, right - left + 1
    weight = np.maximum(1, wide // (_CHARACTER * tall))  # characters may touch
    chain, links = weight.copy(), (wide >= _BAR * tall).astype(np.int64)  # bars may be a ruler's
    for i in range(1, len(boxes)):
        height = np.maximum(tall[:i], tall[i])
        gap = left[i] - right[:i] - 1
        follows = (
            (np.abs(bottom[:i] - bottom[i]) <= np.maximum(1, _BASELINE * height))
            & (np.minimum(tall[:i], tall[i]) >= _LOWEST * height)
            & (gap >= 0)
            & (gap <= _GAP * height)
            & (np.abs(peak[:i] - peak[i]) <= _BRIGHTNESS)
        )
        if follows.any():
            chain[i] += chain[:i][follows].max()
            links[i] += links[:i][follows].max()
    return int(chain[links >= _LETTERS].max(initial=0))
