"""Draw places of one patient found in another: python tools/draw_locate.py OUT.png STUDY [SPLIT]

STUDY is the folder that `pipelines/locate_labels.py DATA STUDY` made. Of the first volumes of its
test subjects (SPLIT: validation) the pair is drawn whose labels are found with the median error, so
that the picture is no better than the method. Above: points of one patient, on the midline of the
structure, and where they are found in the other. Below: one voxel, and how alike every voxel of the
other patient is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from PIL import Image

from medssl.bundle import Bundle
from medssl.drawing.planes import (
    PALETTE,
    PLANES,
    Window,
    border_letters,
    pixel_of,
    take_plane,
)
from medssl.evaluate.locate import Located, Scan, locate
from medssl.store import Store, Volume
from medssl.studies.places import FOUND

Array = npt.NDArray[Any]
POINTS = 5
SHOWN = 2  # of those, the one whose similarity is drawn
INK = "#f0f0f0"
RIM = [Stroke(linewidth=1.8, foreground="black"), Normal()]
INCHES, EDGE, GAP = 0.062, 0.15, 0.4  # a mm; between panels; between rows
BAR = 10  # mm


def middle_pair(study: Path, store: Store, split: str) -> tuple[Volume, Volume]:
    """The first volumes of the two subjects with the median error, the first in the other."""
    table = pd.read_csv(study / f"locate_labels-{split}.csv")
    found = table[table["arm"] == FOUND].groupby(["from", "to"])["error_mm"].mean().sort_values()
    first, second = found.index[len(found) // 2]
    volumes = {}
    for volume_id in store.manifest["volume_id"]:
        volumes.setdefault(store[volume_id].subject_id, store[volume_id])
    return volumes[first], volumes[second]


def along(volume: Volume) -> Array:
    """Points on the midline of what is labelled, from back to front: voxels (P, 3)."""
    label = volume.label()
    assert label is not None
    voxels = np.argwhere(label[0] > 0)
    low, high = np.percentile(voxels[:, 1], (6, 94))
    wanted = np.linspace(low, high, POINTS).round()
    return np.stack([voxels[voxels[:, 1] == y].mean(axis=0).round() for y in wanted])


def scan_of(volume: Volume) -> Scan:
    """As it is found in."""
    return Scan(np.asarray(volume.array()), volume.spacing, volume.row)


class Page:
    """A figure whose panels all have one scale: so many inches a mm."""

    def __init__(self, size: tuple[float, float]) -> None:
        self.figure, self.size = plt.figure(figsize=size), size

    def box(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without a frame, in inches from the upper left corner."""
        across, down = self.size
        where = (left / across, 1 - (top + height) / down, width / across, height / down)
        axis = self.figure.add_axes(where)
        axis.set_axis_off()
        return axis

    def plane(
        self, left: float, top: float, volume: Volume, plane: str, at: Array, title: str
    ) -> tuple[Axes, float]:
        """A plane through a voxel with its title above; the axes, and how wide they are."""
        _, across, down = PLANES[plane]
        width, height = (INCHES * volume.shape[k] * volume.spacing[k] for k in (across, down))
        axis = self.box(left, top, width, height)
        show(axis, volume, plane, at)
        axis.set_title(title, fontsize=9, loc="left", pad=3)
        return axis, width


def show(axis: Axes, volume: Volume, plane: str, position: Array) -> None:
    """A plane through a voxel, with letters of the directions and a scale bar."""
    x, y, z = (int(n) for n in position)
    image, row = np.asarray(volume.array()[0]), volume.row
    low, high = float(row["p005"]), float(row["p995"])
    grey = Window((low + high) / 2, high - low).apply(take_plane(image, plane, (x, y, z)))
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="bilinear")
    letters = border_letters(volume.affine, plane)
    places = {"left": (0.02, 0.5), "right": (0.98, 0.5), "top": (0.5, 0.98), "bottom": (0.5, 0.02)}
    for side, (left, up) in places.items():
        axis.text(
            left, up, letters[side], transform=axis.transAxes, color=INK, fontsize=9,
            ha={"left": "left", "right": "right"}.get(side, "center"),
            va={"top": "top", "bottom": "bottom"}.get(side, "center"), path_effects=RIM,
        )  # fmt: skip
    rows, columns = grey.shape
    long = BAR / volume.spacing[PLANES[plane][1]]
    left, up = 0.05 * columns, 0.94 * rows
    bar = [left, left + long], [up, up]
    axis.plot(*bar, color=INK, linewidth=2.5, path_effects=RIM, solid_capstyle="butt")
    axis.text(
        left, up - 0.02 * rows, f"{BAR} mm", color=INK, fontsize=7, va="bottom", path_effects=RIM
    )


def mark(axis: Axes, volume: Volume, plane: str, point: Array, number: int) -> None:
    """A numbered ring."""
    row, column = pixel_of(volume.shape, plane, tuple(int(n) for n in point))
    colour = [part / 255 for part in PALETTE[number - 1]]
    axis.plot(
        column, row, "o", markersize=7, markerfacecolor="none", color=colour, markeredgewidth=1.8
    )
    axis.annotate(
        str(number), (column, row), (5, 4), textcoords="offset points", color=colour,
        fontsize=10, fontweight="bold", path_effects=RIM,
    )  # fmt: skip


def cross(axis: Axes, volume: Volume, plane: str, point: Array) -> None:
    """Where a voxel is."""
    row, column = pixel_of(volume.shape, plane, tuple(int(n) for n in point))
    axis.plot(column, row, "+", markersize=13, color="#00e5ff", markeredgewidth=1.4)


def draw(first: Volume, second: Volume, points: Array, found: Located, out: Path) -> None:
    """Write the figure."""
    one, other = (INCHES * np.multiply(v.shape, v.spacing) for v in (first, second))
    tops = np.cumsum([0.3, max(one[2], other[2]) + GAP, one[1] + GAP, other[1] + EDGE])
    wide = max(one[1] + other[1] + 2.1, 2 * max(one[0], other[0]) + max(one[1], other[1]))
    page = Page((wide + 4 * EDGE, tops[-1]))
    left = EDGE
    for volume, places, title in (
        (first, points, "Patient A: points asked for"),
        (second, found.voxels, "Patient B: where they are found"),
    ):
        at = np.median(places, axis=0).round()
        axis, width = page.plane(left, tops[0], volume, "sagittal", at, title)
        for number, place in enumerate(places, start=1):
            mark(axis, volume, "sagittal", place, number)
        left += width + EDGE
    table(page.box(left, tops[0], 2.0, one[2]), second, found)
    asked, there, alike = points[SHOWN], found.voxels[SHOWN], found.maps[SHOWN].cpu().numpy()
    left = EDGE
    for plane in PLANES:
        title = f"A: point {SHOWN + 1}, {plane}"
        axis, width = page.plane(left, tops[1], first, plane, asked, title)
        cross(axis, first, plane, asked)
        left += width + EDGE
    left, low, high = EDGE, float(np.median(alike)), float(alike.max())
    for plane in PLANES:
        title = f"B: how alike, {plane}"
        axis, width = page.plane(left, tops[2], second, plane, there, title)
        values = take_plane(alike, plane, tuple(int(n) for n in there))
        opacity = np.clip((values - low) / (high - low), 0, 1) * 0.7
        axis.imshow(
            values, cmap="inferno", vmin=low, vmax=high, alpha=opacity, interpolation="bilinear",
            aspect="auto",
        )  # fmt: skip
        cross(axis, second, plane, there)
        left += width + EDGE
    bar = page.box(left - EDGE - 2.6, tops[2] + other[2] + 0.3, 2.5, 0.14)
    bar.set_axis_on()
    page.figure.colorbar(
        plt.cm.ScalarMappable(norm=plt.Normalize(low, high), cmap="inferno"), cax=bar,
        orientation="horizontal", label="similarity; clear below its median",
    )  # fmt: skip
    page.figure.savefig(out, dpi=100)
    with Image.open(out) as picture:
        picture.convert("RGB").save(out, optimize=True)


def table(axis: Axes, volume: Volume, found: Located) -> None:
    """What goes with every point found in a volume: how far from the drawn slice, and the trust."""
    slice_x = np.median(found.voxels[:, 0]).round()
    lines = ["in B:  slice  alike   back", ""]
    for k, voxel in enumerate(found.voxels):
        off = (voxel[0] - slice_x) * volume.spacing[0]
        lines.append(
            f"  {k + 1}  {off:+3.0f} mm   {found.similarity[k]:.2f} {found.return_mm[k]:4.1f} mm"
        )
    text = "\n".join(lines).replace("+0 mm", " 0 mm").replace("-0 mm", " 0 mm")
    axis.text(0, 0.98, text, fontsize=7.5, family="monospace", va="top", transform=axis.transAxes)
    note = (
        "slice: to the right (+) of the one\ndrawn; alike: similarity, at most 1;\n"
        "back: found again in A, so far from\nthe point asked for"
    )
    axis.text(0, 0.5, note, fontsize=7, va="top", transform=axis.transAxes)


if __name__ == "__main__":
    target, study = Path(sys.argv[1]), Path(sys.argv[2])
    bundle, store = Bundle.load(study / "pretrained" / "bundle"), Store.open(study / "store")
    a, b = middle_pair(study, store, sys.argv[3] if len(sys.argv) > 3 else "test")
    asked = along(a)
    result = locate(bundle.embedding(), scan_of(a), scan_of(b), asked, bundle.spec.contract)
    draw(a, b, asked, result, target)
