"""Draw a plane with its segmentation, letters, scale bar and crosshair; the window presets.

The convention, the letters and the windows are those of :mod:`medssl.drawing.planes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medssl.drawing.planes import (
    PLANES,
    Colour,
    Position,
    Window,
    border_letters,
    pixel_of,
    placement,
    rim,
    round_length,
    spacing_of,
    take_plane,
    write,
)

LETTER_COLOUR = (255, 214, 102)
CROSSHAIR_COLOUR = (110, 231, 183)

CT_WINDOWS: dict[str, Window] = {
    "Soft tissue": Window(40, 400),
    "Lung": Window(-600, 1500),
    "Bone": Window(400, 1800),
    "Brain": Window(40, 80),
    "Liver": Window(60, 160),
}


def window_presets(
    modality: str, image: NDArray[Any], given: tuple[float, float] | None = None
) -> dict[str, Window]:
    """Name -> window for a modality, the one the case came with first.

    Outside CT grey values have no fixed meaning, so presets are percentiles of the non-zero
    voxels: 1 to 99 (auto), 10 to 90 (narrow), lowest to highest (wide).
    """
    presets = {"As predicted": Window(*given)} if given and given[1] > 0 else {}
    if modality == "CT":
        return presets | CT_WINDOWS
    # A stride keeps this quick on large volumes; a window needs no more.
    step = max(1, round((image.size / 2e6) ** (1 / 3)))
    values = image[::step, ::step, ::step]
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size:
        return presets | {"Auto": Window(0.5, 1.0)}
    for name, limits in {"Auto": (1, 99), "Narrow": (10, 90), "Wide": (0, 100)}.items():
        low, high = (float(value) for value in np.percentile(values, limits))
        presets[name] = Window((low + high) / 2, (high - low) or 1.0)
    return presets


@dataclass(frozen=True)
class Style:
    """How to draw: grey window, opacity 0 to 1, colours by label (a label left out is hidden)."""

    window: Window
    opacity: float = 0.4
    outline: bool = False
    colours: Mapping[int, Colour] = field(default_factory=dict)
    crosshair: bool = False


def blend(
    grey: NDArray[np.uint8], labels: NDArray[Any], style: Style, thickness: int = 1
) -> NDArray[np.uint8]:
    """Blend label colours over a grey image.

    grey, labels : (row, column); returns (row, column, 3) uint8. With `style.outline` only the
    pixels of a label within `thickness` of its border are coloured, and fully.
    """
    top = max([int(labels.max(initial=0)), *style.colours])
    palette = np.zeros((top + 1, 3), dtype=np.float32)
    shown = np.zeros(top + 1, dtype=bool)
    for value, colour in style.colours.items():
        palette[value], shown[value] = colour, True
    painted, opacity = shown[labels], style.opacity
    if style.outline:
        painted, opacity = painted & rim(labels, thickness), 1.0
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    rgb[painted] += opacity * (palette[labels[painted]] - rgb[painted])
    return np.asarray(np.floor(rgb + 0.5), dtype=np.uint8)


def render(
    image: NDArray[Any],
    segmentation: NDArray[Any],
    affine: NDArray[Any],
    plane: str,
    position: Position,
    style: Style,
    size: int = 640,
) -> Image.Image:
    """A plane as a square RGB picture of `size` pixels: overlay, letters, scale bar, crosshair.

    image, segmentation : (x, y, z) RAS+; affine : (4, 4) to RAS mm; position : voxel (x, y, z).
    """
    left, top, width, height = placement(image.shape, spacing_of(affine), plane, size)
    values = Image.fromarray(take_plane(image, plane, position).astype(np.float32))
    labels = Image.fromarray(take_plane(segmentation, plane, position).astype(np.int32))
    grey = style.window.apply(np.asarray(values.resize((width, height), Image.Resampling.BILINEAR)))
    enlarged = np.asarray(labels.resize((width, height), Image.Resampling.NEAREST))
    thickness = max(1, size // 320)
    picture = Image.new("RGB", (size, size))
    picture.paste(Image.fromarray(blend(grey, enlarged, style, thickness)), (left, top))
    draw = ImageDraw.Draw(picture)
    if style.crosshair:
        row, column = pixel_of(image.shape, plane, position)
        shown = take_plane(image, plane, position).shape
        x = left + (column + 0.5) * width / shown[1]
        y = top + (row + 0.5) * height / shown[0]
        _draw_crosshair(draw, x, y, size)
    _draw_letters(draw, border_letters(affine, plane), size)
    across = PLANES[plane][1]
    _draw_scale(draw, width / (image.shape[across] * spacing_of(affine)[across]), size)
    return picture


def _draw_crosshair(draw: ImageDraw.ImageDraw, x: float, y: float, size: int) -> None:
    """Two lines with a gap around the point, so that they do not hide what they point at."""
    gap, width = size // 28, max(1, size // 320)
    for line in (
        [(0.0, y), (x - gap, y)],
        [(x + gap, y), (float(size), y)],
        [(x, 0.0), (x, y - gap)],
        [(x, y + gap), (x, float(size))],
    ):
        draw.line(line, fill=CROSSHAIR_COLOUR, width=width)


def _text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, anchor: str) -> None:
    write(draw, place, text, anchor, draw.im.size[0] / 24, LETTER_COLOUR)


def _draw_letters(draw: ImageDraw.ImageDraw, letters: Mapping[str, str], size: int) -> None:
    margin = size / 40
    _text(draw, (margin, size / 2), letters["left"], "lm")
    _text(draw, (size - margin, size / 2), letters["right"], "rm")
    _text(draw, (size / 2, margin), letters["top"], "mt")
    _text(draw, (size / 2, size - margin), letters["bottom"], "mb")


def _draw_scale(draw: ImageDraw.ImageDraw, pixels_per_mm: float, size: int) -> None:
    """A bar of a round length, at most a quarter of the picture wide."""
    millimetres = round_length(size / 4 / pixels_per_mm)
    if not millimetres:
        return
    margin, length = size / 40, millimetres * pixels_per_mm
    y = size - margin - size / 80
    draw.line([(margin, y), (margin + length, y)], fill=LETTER_COLOUR, width=max(2, size // 200))
    _text(draw, (margin, y - size / 80), f"{millimetres} mm", "lb")
