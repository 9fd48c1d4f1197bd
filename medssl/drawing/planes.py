"""Planes of a RAS+ volume the way a radiologist reads them: cuts, letters, windows, outlines.

Radiological convention: the patient's right is on the left of axial and coronal images, and
anterior is on the left of sagittal images; superior (or anterior, in axial) is up. In RAS+ every
displayed axis therefore runs backwards, for all three planes alike.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

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


def label_colour(value: int) -> Colour:
    """The colour of a label value (1, 2, ...), the same in every case."""
    if value <= len(PALETTE):
        return PALETTE[value - 1]
    red, green, blue = colorsys.hsv_to_rgb((value * 0.618034) % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def take_plane(volume: NDArray[Any], plane: str, position: Position) -> NDArray[Any]:
    """One plane of (x, y, z) as (row, column), radiological convention, through `position`."""
    axis = PLANES[plane][0]
    # Indexed, not taken: of a memory map this reads the plane alone.
    cut: NDArray[Any] = np.asarray(volume[(slice(None),) * axis + (position[axis],)])
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


def rim(labels: NDArray[Any], thickness: int) -> NDArray[np.bool_]:
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


@cache
def _font(height: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    anchor: str,
    height: float,
    fill: Colour | int,
    rimmed: bool = True,
) -> None:
    """Text of `height` pixels, anchored as in Pillow; with a dark rim it is read on white too."""
    draw.text(
        place,
        text,
        fill=fill,
        font=_font(height),
        anchor=anchor,
        stroke_width=max(1, round(height / 13)) if rimmed else 0,
        stroke_fill=0 if isinstance(fill, int) else (0, 0, 0),
    )


def round_length(most: float) -> int:
    """The longest of 1, 2, 5, 10, ... 200 mm that is at most ``most``; 0 where there is none."""
    return max((mm for mm in (1, 2, 5, 10, 20, 50, 100, 200) if mm <= most), default=0)
