"""A figure of partitions: where they lie in volumes, and what is alike in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.drawing.planes import PALETTE, PLANES, take_plane
from medssl.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
Subject = tuple[Array, tuple[float, ...]]
Colour = tuple[float, float, float]

_SHOWN = 4  # subjects
_WIDTH, _TOP = 1.8, 0.6  # inches: of a column, and of what is written above

# axis -> the plane that shows it, the plane across it, and where the first partition begins
_LOOKS = {
    0: ("coronal", "sagittal", "from left to right"),
    1: ("sagittal", "coronal", "from back to front"),
    2: ("coronal", "axial", "from feet to head"),
}
# at the left, at the top
_LETTERS = {"axial": ("R", "A"), "coronal": ("R", "S"), "sagittal": ("A", "S")}


def partition_figure(subjects: Sequence[Subject], axis: int, count: int) -> Figure:
    """A column for each subject: a slice along the axis with its partitions, then the middle of
    each partition, so that those of one number are beside each other.

    Args:
        subjects: of each an array, (x, y, z) in RAS+ or (row, column), of which planes alone are
            read, and its mm a voxel. Volumes are drawn as radiologists hang them.
        axis: the one that is divided.
        count: into how many partitions.
    """
    from matplotlib.figure import Figure

    tops = [_along(subject, axis) for subject in subjects]
    rows = [[_part(subject, axis, k, count) for subject in subjects] for k in range(count)]
    widest = max(size[1] for row in [tops, *rows] for _, size in row)
    heights = [max(size[0] for _, size in row) for row in [tops, *rows]]
    high = _WIDTH / widest * sum(heights) + 0.15 * (count + 1) + _TOP
    figure = Figure(figsize=(_WIDTH * len(subjects) + 1.0, high), layout="constrained")
    ratios = {"height_ratios": heights}
    axes = figure.subplots(count + 1, len(subjects), squeeze=False, gridspec_kw=ratios)
    volumes = subjects[0][0].ndim == 3
    told = _LOOKS[axis][2] if volumes else ("from the top down", "from left to right")[axis]
    figure.suptitle(f"{count} partitions {told}", fontsize=10)
    windows = [np.percentile(picture, (1, 99)) for picture, _ in tops]
    for line, (row, height) in enumerate(zip([tops, *rows], heights, strict=True)):
        for number, (picture, size) in enumerate(row):
            panel = axes[line, number]
            low, top = windows[number]
            panel.imshow(
                picture, cmap="gray", vmin=low, vmax=max(top, low + 1e-6),
                extent=(-size[1] / 2, size[1] / 2, -size[0] / 2, size[0] / 2),
            )  # fmt: skip
            panel.set(xlim=(-widest / 2, widest / 2), ylim=(-height / 2, height / 2))
            panel.set(xticks=[], yticks=[], aspect="equal")
            panel.spines[:].set_visible(False)
            if line == 0:
                panel.set_title(f"subject {number + 1}", fontsize=9)
                _bands(panel, size, axis, count, volumes)
            if volumes:
                _letters(panel, size, _LOOKS[axis][line > 0])
        if line:
            axes[line, 0].set_ylabel(f"partition {line}", fontsize=9, rotation=0, ha="right")
    return figure


def draw_partitions(
    store: Store, volume_ids: Sequence[str], bands: tuple[int, int], out: Path
) -> None:
    """Write :func:`partition_figure` of the first volumes of the first subjects to OUT.png.

    Args:
        store: where the volumes are.
        volume_ids: some or all of them.
        bands: axis and count, as of :class:`medssl.methods.Method`.
        out: the file.
    """
    chosen: dict[str, Subject] = {}
    for volume_id in volume_ids:
        volume = store[volume_id]
        if volume.subject_id not in chosen:
            chosen[volume.subject_id] = (volume.array()[0], volume.spacing)
        if len(chosen) == _SHOWN:
            break
    out.parent.mkdir(exist_ok=True)
    partition_figure(list(chosen.values()), *bands).savefig(out, dpi=110)


def _along(subject: Subject, axis: int) -> tuple[Array, tuple[float, float]]:
    """A slice through the middle that shows the axis, and its height and width in mm."""
    array, spacing = subject
    if array.ndim == 2:
        return np.asarray(array), _extent(array.shape, spacing)
    x, y, z = (n // 2 for n in array.shape)
    return _plane(subject, _LOOKS[axis][0], (x, y, z))


def _part(subject: Subject, axis: int, k: int, count: int) -> tuple[Array, tuple[float, float]]:
    """The plane across the axis in the middle of a partition; of a picture, all of it."""
    array, spacing = subject
    if array.ndim == 2:
        first, last = (round(j * array.shape[axis] / count) for j in (k, k + 1))
        cut = np.asarray(array[first:last] if axis == 0 else array[:, first:last])
        return cut, _extent(cut.shape, spacing)
    middle = int((k + 0.5) * array.shape[axis] / count)
    x, y, z = (middle if a == axis else n // 2 for a, n in enumerate(array.shape))
    return _plane(subject, _LOOKS[axis][1], (x, y, z))


def _plane(
    subject: Subject, plane: str, position: tuple[int, int, int]
) -> tuple[Array, tuple[float, float]]:
    array, spacing = subject
    picture = take_plane(array, plane, position)
    _, across, down = PLANES[plane]
    return picture, _extent(picture.shape, (spacing[down], spacing[across]))


def _extent(shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, float]:
    return float(shape[0] * spacing[0]), float(shape[1] * spacing[1])


def _bands(panel: Axes, size: tuple[float, float], axis: int, count: int, volumes: bool) -> None:
    """The partitions of a slice: a coloured frame and a number each."""
    from matplotlib.patches import Rectangle

    height, width = size
    upright = axis == 2 if volumes else axis == 0  # one partition above the other
    # RAS+ runs to the left and up in a picture, rows run down and columns to the right
    backwards = (axis != 2) if volumes else (axis == 0)
    long = (height if upright else width) / count
    for k in range(count):
        start = (count - 1 - k if backwards else k) * long
        corner = (-width / 2, start - height / 2) if upright else (start - width / 2, -height / 2)
        sides = (width, long) if upright else (long, height)
        colour = _colour(k)
        panel.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=1.5))
        across, up = (c + s / 2 for c, s in zip(corner, sides, strict=True))
        x, y = (0.36 * width, up) if upright else (across, -0.36 * height)
        _write(panel, x, y, str(k + 1), 10, colour)


def _letters(panel: Axes, size: tuple[float, float], plane: str) -> None:
    """Which way is which: at the left and at the top border."""
    height, width = size
    for letter, x, y in zip(_LETTERS[plane], (-0.44 * width, 0), (0, 0.42 * height), strict=True):
        _write(panel, x, y, letter, 7, (1.0, 1.0, 1.0))


def _write(panel: Axes, x: float, y: float, text: str, points: int, colour: Colour) -> None:
    """Text with a dark rim, which is read on any grey."""
    from matplotlib.patheffects import withStroke

    rim = [withStroke(linewidth=2, foreground="black")]
    panel.text(
        x, y, text, color=colour, fontsize=points, ha="center", va="center", path_effects=rim
    )


def _colour(k: int) -> Colour:
    red, green, blue = PALETTE[k % len(PALETTE)]
    return red / 255, green / 255, blue / 255
