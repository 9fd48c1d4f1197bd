"""Slices as a radiologist hangs them, overlays, curves and dot plots, as PNG.

Radiological convention: the patient's right is on the left of axial and coronal slices; sagittal
slices have the front on the left. Letters at the edges say which side is which.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medssl.drawing.planes import take_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

# Okabe and Ito's palette, told apart with any colour vision.
COLOURS = {
    1: "#E69F00", 2: "#56B4E9", 3: "#009E73", 4: "#0072B2", 5: "#CC79A7", 6: "#D55E00",
    7: "#F0E442",
}  # fmt: skip
SCRATCH, PRETRAINED = "#8a97a3", "#0a6670"

Box = tuple[float, float, float, float]

_AXIS: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
_LETTERS: dict[Plane, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
"""Left, right, top and bottom of the picture."""


@dataclass(frozen=True)
class View:
    """One slice to show: `image` (x, y, z) in RAS+, where it is cut, and how it is shown.

    spacing: mm. index: along the axis that the plane cuts. low, high: the grey scale's ends in the
    image's unit. label, outline: label maps (x, y, z) shown as colour and as a white outline.
    """

    image: NDArray[Any]
    spacing: Sequence[float]
    plane: Plane
    index: int
    low: float
    high: float
    title: str = ""
    label: NDArray[Any] | None = None
    outline: NDArray[Any] | None = None


def cut(volume: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """The slice (row, column) of a RAS+ volume (x, y, z), as it hangs on the light box."""
    return take_plane(volume, plane, (index, index, index))


def extent(shape: Sequence[int], spacing: Sequence[float], plane: Plane) -> tuple[float, float]:
    """Width and height of the slice in mm."""
    across, up = [axis for axis in range(3) if axis != _AXIS[plane]]
    return shape[across] * spacing[across], shape[up] * spacing[up]


def busiest(label: NDArray[Any], plane: Plane, numbers: Sequence[int]) -> int:
    """The slice that shows the most of these labels: all of them if it can, and large."""
    axis = _AXIS[plane]
    others = tuple(i for i in range(3) if i != axis)
    areas = np.stack([(label == number).sum(axis=others) for number in numbers]).astype(float)
    largest = np.maximum(areas.max(axis=1, keepdims=True), 1)
    return int(np.argmax(np.sqrt(areas / largest).sum(axis=0)))


def mosaic(
    rows: Sequence[Sequence[View]],
    *,
    width: float = 11.0,
    mark: str = "",
    names: Mapping[int, str] | None = None,
) -> bytes:
    """A grid of slices on black, rows from top to bottom; every row has one height. PNG.

    width: inches. mark: text in the upper left corner of the first slice, such as the window.
    names: of the label values; a strip below then names the colours, and the white outline.
    """
    from matplotlib.figure import Figure

    gap, top, strip = 0.04, 0.26, 0.36 if names else 0.0
    ratios = [[_ratio(view) for view in row] for row in rows]
    heights = [(width - gap * (len(row) - 1)) / sum(row) for row in ratios]
    tops = [top if any(view.title for view in row) else 0.0 for row in rows]
    total = sum(heights) + sum(tops) + gap * (len(rows) - 1) + strip
    figure = Figure(figsize=(width, total), facecolor="black")
    y = total
    for row, shares, height, above in zip(rows, ratios, heights, tops, strict=True):
        y -= height + above
        x = 0.0
        for view, share in zip(row, shares, strict=True):
            box = (x / width, y / total, share * height / width, height / total)
            _panel(figure.add_axes(box), view, mark if view is rows[0][0] else "")
            x += share * height + gap
        y -= gap
    if names:
        outlined = any(view.outline is not None for row in rows for view in row)
        _legend(figure, names, outlined)
    return png(figure)


def _legend(figure: Figure, names: Mapping[int, str], outlined: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=COLOURS[n], label=name) for n, name in names.items()]
    if outlined:
        handles.append(Line2D([], [], color="white", lw=1.4, label="outline: truth"))
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), frameon=False,
        labelcolor="white", fontsize=9, handlelength=1.2, columnspacing=1.8, borderaxespad=0.2,
    )  # fmt: skip


def _ratio(view: View) -> float:
    across, up = extent(view.image.shape, view.spacing, view.plane)
    return across / up


def _panel(axes: Axes, view: View, mark: str) -> None:
    across, up = extent(view.image.shape, view.spacing, view.plane)
    box = (0.0, across, 0.0, up)
    picture = cut(view.image, view.plane, view.index)
    axes.imshow(
        picture, cmap="gray", vmin=view.low, vmax=view.high, extent=box, interpolation="bicubic"
    )
    if view.label is not None:
        _overlay(axes, cut(view.label, view.plane, view.index), box)
    if view.outline is not None:
        _outline(axes, cut(view.outline, view.plane, view.index), box)
    axes.set_axis_off()
    axes.set_xlim(0, across)
    axes.set_ylim(0, up)
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.975), (0.5, 0.025))
    aligned = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (h, v) in zip(_LETTERS[view.plane], places, aligned, strict=True):
        _write(axes, x, y, letter, fontsize=8, ha=h, va=v, weight="bold")
    if view.title:
        axes.set_title(view.title, color="white", fontsize=9.5, pad=4)
    if mark:
        _write(axes, 0.02, 0.975, mark, fontsize=7, va="top")
        _scale_bar(axes, across, up)


def _scale_bar(axes: Axes, across: float, up: float) -> None:
    end, length = across * 0.98, 50.0
    axes.plot([end - length, end], [up * 0.03] * 2, color="#d5dde3", lw=1.6, solid_capstyle="butt")
    _write(axes, 1 - 0.02 - length / 2 / across, 0.05, "50 mm", fontsize=7, ha="center")


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text that is read on black and on white; x and y are shares of the picture."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.0, foreground="black")]
    axes.text(x, y, text, transform=axes.transAxes, color="#e6ecf0", path_effects=outline, **style)


def _overlay(axes: Axes, label: NDArray[Any], box: Box) -> None:
    from matplotlib.colors import to_rgb

    colour = np.zeros((*label.shape, 4), dtype=np.float32)
    for number in np.unique(label[label > 0]):
        colour[label == number] = (*to_rgb(COLOURS.get(int(number), "#ffffff")), 0.42)
    axes.imshow(colour, extent=box, interpolation="nearest")
    for number in np.unique(label[label > 0]):
        _contour(axes, label == number, box, COLOURS.get(int(number), "#ffffff"), 1.0)


def _outline(axes: Axes, label: NDArray[Any], box: Box) -> None:
    for number in np.unique(label[label > 0]):
        _contour(axes, label == number, box, "white", 0.8)


def _contour(axes: Axes, mask: NDArray[Any], box: Box, colour: str, width: float) -> None:
    rows, columns = mask.shape
    x = box[0] + (np.arange(columns) + 0.5) * (box[1] - box[0]) / columns
    y = box[3] - (np.arange(rows) + 0.5) * (box[3] - box[2]) / rows
    axes.contour(x, y, mask.astype(float), levels=[0.5], colors=[colour], linewidths=width)


def png(figure: Figure, dpi: int = 130) -> bytes:
    """A figure as PNG; without a date, so that equal figures are equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
