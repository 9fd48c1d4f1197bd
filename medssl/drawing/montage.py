"""Small pictures of volumes for a page: three planes side by side, or a 2D image as it is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medssl.drawing.planes import (
    PLANES,
    Position,
    Window,
    border_letters,
    label_colour,
    rim,
    round_length,
    spacing_of,
    take_plane,
    write,
)

Array = NDArray[Any]

BOX = (224, 280)
"""The most that one plane is wide and high, in pixels."""
MARGIN, STRIP, LETTER = 18, 16, 12.0
GREYS = 224
"""Levels of grey; what is left of 256 are colours of labels."""
_WHITE = GREYS - 1


@dataclass(frozen=True)
class Panel:
    """Where one plane lies in the picture, in pixels."""

    plane: str
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Layout:
    """Three planes on one scale: a millimetre is as long in each of them, across and down."""

    panels: list[Panel]
    size: tuple[int, int]
    pixels_per_mm: float


def layout(shape: Sequence[int], spacing: Sequence[float], margin: int = MARGIN) -> Layout:
    """Place axial, coronal and sagittal side by side, centred on one line.

    Args:
        shape: voxels along x, y, z.
        spacing: of them, mm.
        margin: pixels around each plane, for its letters.
    """
    x, y, z = (n * mm for n, mm in zip(shape, spacing, strict=True))
    scale = min(BOX[0] / max(x, y), BOX[1] / max(y, z))
    sizes = [
        (max(1, round(width * scale)), max(1, round(height * scale)))
        for width, height in ((x, y), (x, z), (y, z))
    ]
    tallest = max(height for _, height in sizes)
    panels, left = [], 0
    for plane, (width, height) in zip(PLANES, sizes, strict=True):
        panels.append(Panel(plane, left + margin, margin + (tallest - height) // 2, width, height))
        left += width + 2 * margin
    return Layout(panels, (left, tallest + 2 * margin + STRIP), scale)


def three_planes(
    volume: Array,
    affine: Array,
    position: Position,
    window: Window,
    label: Array | None = None,
    placed: bool = True,
) -> Image.Image:
    """The three planes through a voxel, in radiological convention and true to mm.

    Args:
        volume: (x, y, z) in RAS+; a memory map is read plane by plane.
        affine: 4x4, voxel to RAS mm.
        position: the voxel (x, y, z).
        window: in the unit of the volume.
        label: a label map on the same grid, drawn as outlines.
        placed: whether the affine is known; without, neither letters nor a scale are drawn.

    Returns:
        a palette picture: grey on black, labels outlined in :func:`label_colour`.
    """
    letters = {plane: border_letters(affine, plane) for plane in PLANES}
    longest = max(len(word) for words in letters.values() for word in words.values())
    plan = layout(volume.shape, spacing_of(affine), max(MARGIN, 8 * longest + 6))
    canvas = _Canvas(plan.size)
    for panel in plan.panels:
        area = (panel.left, panel.top, panel.width, panel.height)
        canvas.paste(window.apply(take_plane(volume, panel.plane, position)), area)
        if label is not None:
            canvas.outline(take_plane(label, panel.plane, position), area)
        if placed:
            canvas.letters(letters[panel.plane], area)
    if placed:
        canvas.scale(plan.panels[0].left, plan.pixels_per_mm, plan.size[0] / 3)
    return canvas.picture()


def flat(
    image: Array,
    spacing: Sequence[float],
    window: Window,
    label: Array | None = None,
    placed: bool = False,
) -> Image.Image:
    """A 2D image as it is stored, true to mm, with a scale where its spacing is known.

    Args:
        image: (row, column), or (row, column, 3) uint8 of colours, which `window` leaves alone.
        spacing: distance between rows, then between columns, mm.
        window: in the unit of the image.
        label: (row, column), drawn as outlines.
        placed: whether the spacing is known.
    """
    rows, columns = (n * mm for n, mm in zip(image.shape[:2], spacing, strict=True))
    scale = min(BOX[0] / columns, BOX[1] / rows)
    width, height = max(1, round(columns * scale)), max(1, round(rows * scale))
    if image.ndim == 3:
        return Image.fromarray(np.ascontiguousarray(image)).resize((width, height))
    canvas = _Canvas((width, height + (STRIP if placed else 0)))
    canvas.paste(window.apply(image), (0, 0, width, height))
    if label is not None:
        canvas.outline(label, (0, 0, width, height))
    if placed:
        canvas.scale(0, scale, width / 2)
    return canvas.picture()


def thumbnail(grey: NDArray[np.uint8]) -> Image.Image:
    """A small grey picture (row, column) as it is."""
    return Image.fromarray(np.ascontiguousarray(grey, dtype=np.uint8))


def png(picture: Image.Image) -> bytes:
    """A picture as PNG; equal pictures are equal bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


class _Canvas:
    """Grey levels below :data:`GREYS`, and above them the colours of labels."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._grey = Image.new("L", size)
        self._draw = ImageDraw.Draw(self._grey)
        self._labels: list[tuple[Array, tuple[int, int]]] = []

    def paste(self, grey: NDArray[np.uint8], area: tuple[int, int, int, int]) -> None:
        left, top, width, height = area
        fitted = Image.fromarray(np.ascontiguousarray(grey)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        levels = np.asarray(fitted).astype(np.uint16) * _WHITE // 255
        self._grey.paste(Image.fromarray(levels.astype(np.uint8)), (left, top))

    def outline(self, label: Array, area: tuple[int, int, int, int]) -> None:
        left, top, width, height = area
        whole = Image.fromarray(np.ascontiguousarray(label).astype(np.int32))
        fitted = np.asarray(whole.resize((width, height), Image.Resampling.NEAREST))
        self._labels.append((np.where(rim(fitted, 1), fitted, 0), (left, top)))

    def letters(self, words: Mapping[str, str], area: tuple[int, int, int, int]) -> None:
        left, top, width, height = area
        middle, centre = top + height / 2, left + width / 2
        for side, place, anchor in (
            ("left", (left - 3, middle), "rm"),
            ("right", (left + width + 3, middle), "lm"),
            ("top", (centre, top - 3), "mb"),
            ("bottom", (centre, top + height + 3), "mt"),
        ):
            write(self._draw, place, words[side], anchor, LETTER, _WHITE, rimmed=False)

    def scale(self, left: int, pixels_per_mm: float, most: float) -> None:
        """A bar of a round length in the strip at the bottom."""
        length = round_length(most / pixels_per_mm)
        if length:
            y = self._grey.size[1] - STRIP / 2
            end = left + length * pixels_per_mm
            self._draw.line([(left, y), (end, y)], fill=_WHITE, width=2)
            write(self._draw, (end + 5, y), f"{length} mm", "lm", LETTER - 1, _WHITE, False)

    def picture(self) -> Image.Image:
        pixels = np.array(self._grey)
        present = sorted({int(v) for found, _ in self._labels for v in np.unique(found)} - {0})
        slots = {value: GREYS + i % (256 - GREYS) for i, value in enumerate(present)}
        for found, (left, top) in self._labels:
            part = pixels[top : top + found.shape[0], left : left + found.shape[1]]
            for value, slot in slots.items():
                part[found == value] = slot
        picture = Image.fromarray(pixels)
        colours = [round(i * 255 / _WHITE) for i in range(GREYS) for _ in range(3)]
        for value in present[: 256 - GREYS]:
            colours += label_colour(value)
        picture.putpalette(colours)
        return picture
