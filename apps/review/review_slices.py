"""Draw the axial, coronal and sagittal planes of a RAS+ volume the way a radiologist reads them.

Radiological convention: the patient's right is on the left of axial and coronal images, and
anterior is on the left of sagittal images; superior (or anterior, in axial) is up. In RAS+ every
displayed axis therefore runs backwards, for all three planes alike.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Position = tuple[int, int, int]
Colour = tuple[int, int, int]

# Axes of (x, y, z): the one the plane cuts, the one across the image, the one down the image.
PLANES: dict[str, tuple[int, int, int]] = {
    "axial": (2, 0, 1),
    "coronal": (1, 0, 2),
    "sagittal": (0, 1, 2),
}
# An axis within about 15 degrees of an anatomical one carries one letter, an oblique one more.
OBLIQUE = 0.26
# Distinct on grey and to colour-blind readers (after Okabe and Ito).
PALETTE: tuple[Colour, ...] = (
    (255, 176, 0),
    (68, 170, 255),
    (240, 90, 160),
    (0, 200, 140),
    (255, 110, 60),
    (170, 130, 255),
    (240, 228, 66),
    (120, 220, 232),
)
LETTER_COLOUR = (255, 214, 102)
CROSSHAIR_COLOUR = (110, 231, 183)


@dataclass(frozen=True)
class Window:
    """Grey-level window: centre and width in the units of the image, width > 0."""

    centre: float
    width: float

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Map values to grey levels 0 to 255 (DICOM PS3.3 C.11.2.1.3.2, LINEAR_EXACT)."""
        scaled = (values.astype(np.float32) - self.centre) / self.width + 0.5
        grey = np.floor(np.clip(np.nan_to_num(scaled), 0.0, 1.0) * 255.0 + 0.5)
        return np.asarray(grey, dtype=np.uint8)


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


def label_colour(value: int) -> Colour:
    """The colour of a label value (1, 2, ...), the same in every case."""
    if value <= len(PALETTE):
        return PALETTE[value - 1]
    red, green, blue = colorsys.hsv_to_rgb((value * 0.618034) % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def take_plane(volume: NDArray[Any], plane: str, position: Position) -> NDArray[Any]:
    """One plane of (x, y, z) as (row, column), radiological convention, through `position`."""
    axis = PLANES[plane][0]
    cut: NDArray[Any] = np.take(volume, position[axis], axis=axis)
    return cut.T[::-1, ::-1]


def pixel_of(shape: tuple[int, ...], plane: str, position: Position) -> tuple[int, int]:
    """(row, column) in `take_plane` of the voxel at `position`."""
    _, across, down = PLANES[plane]
    return shape[down] - 1 - position[down], shape[across] - 1 - position[across]


def spacing_of(affine: NDArray[Any]) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels along x, y, z."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def direction_letters(direction: NDArray[Any]) -> str:
    """Anatomical letters of a RAS direction, strongest first: "R", or "AS" where oblique.

    As in DICOM PS3.3 C.7.6.1.1.1 (Patient Orientation).
    """
    unit = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit), kind="stable")
    names = ("LR", "PA", "IS")
    kept = [axis for rank, axis in enumerate(order) if rank == 0 or abs(unit[axis]) > OBLIQUE]
    return "".join(names[axis][int(unit[axis] > 0)] for axis in kept)


def border_letters(affine: NDArray[Any], plane: str) -> dict[str, str]:
    """Letters at the left, right, top and bottom border of a plane of a RAS+ volume."""
    _, across, down = PLANES[plane]
    left, top = affine[:3, across], affine[:3, down]
    return {
        "left": direction_letters(left),
        "right": direction_letters(-left),
        "top": direction_letters(top),
        "bottom": direction_letters(-top),
    }


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
        painted, opacity = painted & _border(labels, thickness), 1.0
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    rgb[painted] += opacity * (palette[labels[painted]] - rgb[painted])
    return np.asarray(np.floor(rgb + 0.5), dtype=np.uint8)


def _border(labels: NDArray[Any], thickness: int) -> NDArray[np.bool_]:
    """True where a pixel with another value lies within `thickness` along a row or column."""
    padded = np.pad(labels, thickness, mode="edge")
    rows, columns = labels.shape
    border = np.zeros(labels.shape, dtype=bool)
    for step in range(-thickness, thickness + 1):
        moved = slice(thickness + step, thickness + step + rows)
        border |= padded[moved, thickness : thickness + columns] != labels
        moved = slice(thickness + step, thickness + step + columns)
        border |= padded[thickness : thickness + rows, moved] != labels
    return border


def placement(
    shape: tuple[int, ...], spacing: tuple[float, ...], plane: str, size: int
) -> tuple[int, int, int, int]:
    """(left, top, width, height) in pixels of a plane in a square of `size`, true to mm."""
    _, across, down = PLANES[plane]
    width_mm, height_mm = shape[across] * spacing[across], shape[down] * spacing[down]
    scale = size / max(width_mm, height_mm)
    width, height = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    return (size - width) // 2, (size - height) // 2, width, height


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
    size = draw.im.size[0]
    draw.text(
        place,
        text,
        fill=LETTER_COLOUR,
        font=ImageFont.load_default(size / 24),
        anchor=anchor,
        stroke_width=max(1, size // 320),
        stroke_fill=(0, 0, 0),
    )


def _draw_letters(draw: ImageDraw.ImageDraw, letters: Mapping[str, str], size: int) -> None:
    margin = size / 40
    _text(draw, (margin, size / 2), letters["left"], "lm")
    _text(draw, (size - margin, size / 2), letters["right"], "rm")
    _text(draw, (size / 2, margin), letters["top"], "mt")
    _text(draw, (size / 2, size - margin), letters["bottom"], "mb")


def _draw_scale(draw: ImageDraw.ImageDraw, pixels_per_mm: float, size: int) -> None:
    """A bar of a round length, at most a quarter of the picture wide."""
    lengths = [mm for mm in (1, 2, 5, 10, 20, 50, 100, 200) if mm * pixels_per_mm <= size / 4]
    if not lengths:
        return
    margin, length = size / 40, lengths[-1] * pixels_per_mm
    y = size - margin - size / 80
    draw.line([(margin, y), (margin + length, y)], fill=LETTER_COLOUR, width=max(2, size // 200))
    _text(draw, (margin, y - size / 80), f"{lengths[-1]} mm", "lb")
