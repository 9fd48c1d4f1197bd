"""Volumes in pictures: one card each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.drawing import charts, montage
from medssl.drawing.page import Card
from medssl.drawing.planes import Window
from medssl.errors import CODES
from medssl.ingest.report.sample import Sample
from medssl.store import Volume

Array = npt.NDArray[Any]

SOFT_TISSUE, WIDE = Window(40, 400), Window(-300, 1500)
_LUNG, _AIR = (-880.0, -650.0), -950.0
"""HU of aerated lung, above the foam of tables and blankets; what is below `_AIR` is no body."""
_MUCH_LUNG = 0.12
_BINS = 55
PLACELESS = ("npz", "png")
"""Sources that state no geometry: what is left and what is a millimetre is not known."""


def is_placed(volume: Volume) -> bool:
    """Whether the file the volume came from stated a geometry."""
    stated = str(volume.row.get("source", "")) not in PLACELESS
    return stated and "AFFINE_INVALID" not in _defects(volume)


def window_of(volume: Volume, taken: Sample) -> tuple[Window, str]:
    """The window to show a volume in, and how it is called.

    CT: soft tissue, or a wide one where much is lung or no value lies in the former. Others, whose
    values have no fixed meaning: from the 0.5th to the 99.5th percentile.

    Args:
        volume: of the store.
        taken: some of its voxels.
    """
    values, (low, high) = taken.values, taken.ends
    if volume.modality == "CT" and low < 240 and high > -160:
        body = values[values > _AIR]
        lung = ((body > _LUNG[0]) & (body < _LUNG[1])).mean() if body.size else 0.0
        window = WIDE if lung > _MUCH_LUNG else SOFT_TISSUE
        return window, f"W {window.width:g} L {window.centre:g} HU"
    if not high > low:
        low, high = float(values.min()), float(values.max())
    text = f"window {charts.number(low)} to {charts.number(high)}"
    return Window((low + high) / 2, (high - low) or 1.0), text


def picture(volume: Volume, taken: Sample, window: Window) -> bytes:
    """The volume in three planes, or the 2D image as it is stored, as PNG."""
    array, label, placed = volume.array(), volume.label(), is_placed(volume)
    first = None if label is None else label[0]
    if volume.dims == 3:
        drawn = montage.three_planes(
            array[0], volume.affine, taken.centre, window, first, placed=placed
        )
    else:
        colours = array.shape[0] == 3 and array.dtype == np.uint8
        image = np.moveaxis(np.asarray(array), 0, -1) if colours else np.asarray(array[0])
        known = str(volume.row.get("source", "")) == "dicom"
        drawn = montage.flat(image, volume.spacing, window, first, placed=known)
    return montage.png(drawn)


def card(volume: Volume, taken: Sample, reasons: Sequence[str] = ()) -> Card:
    """A volume with its picture, its histogram and what is known of it.

    Args:
        volume: of the store.
        taken: some of its voxels.
        reasons: why it looks odd.
    """
    window, text = window_of(volume, taken)
    planes = "axial, coronal and sagittal plane" if volume.dims == 3 else "2D image"
    marks = [*reasons]
    for code in _defects(volume):
        meaning = CODES[code].meaning if code in CODES else ""
        marks.append(f"Accepted defect {code}. {meaning}".strip())
    return Card(
        title=volume.volume_id,
        lines=_lines(volume, text),
        png=picture(volume, taken, window),
        alt=f"{volume.modality} volume, {planes}",
        marks=marks,
        svg=_histogram(taken.values, volume, window),
    )


def _defects(volume: Volume) -> list[str]:
    found = volume.row.get("defects")
    return [] if found is None else [str(code) for code in found]


def _lines(volume: Volume, window: str) -> list[str]:
    row = volume.row
    kind = f"{volume.modality} {volume.dims}D"
    part = str(row.get("part", "") or "")
    size = " x ".join(map(str, volume.shape))
    channels = int(row.get("channels", 1))
    first = " of the first" if channels > 1 and not (volume.dims == 2 and channels == 3) else ""
    lines = [
        f"{kind}, {part}" if part else kind,
        f"{size} voxels" + (f", {channels} channels" if channels > 1 else ""),
        " x ".join(f"{v:.4g}" for v in volume.spacing) + " mm" if is_placed(volume) else "",
        f"subject {volume.subject_id}",
        f"split {row['split']}" if row.get("split") else "",
        window + first + (" channel" if first else ""),
    ]
    if not is_placed(volume):
        lines[2] = "the file states no geometry: sides and millimetres are not known"
    elif volume.dims == 2:
        lines.append("as stored; sides are not known")
    elif volume.source_orientation:
        lines.append(f"stored as {volume.source_orientation}")
    return [line for line in lines if line]


def _histogram(values: Array, volume: Volume, window: Window) -> str:
    low, high = (float(v) for v in np.percentile(values, [0.05, 99.95]))
    if not charts.differ(low, high):
        low, high = float(values.min()), float(values.max())
    if volume.modality == "CT":
        low = max(low, -1100.0)
    if not charts.differ(low, high):
        return ""
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    ends = (window.centre - window.width / 2, window.centre + window.width / 2)
    return charts.histogram(
        counts, low, high, unit=_unit(volume.modality), title="Histogram of values", shaded=ends
    )


def _unit(modality: str) -> str:
    return "HU" if modality == "CT" else ""


@dataclass(frozen=True)
class Spread:
    """How the values of a modality's volumes are spread.

    Attributes:
        svg: the histogram.
        caption: of what.
    """

    svg: str
    caption: str


def spread(modality: str, taken: Mapping[str, tuple[Volume, Sample]], total: int) -> Spread | None:
    """One histogram of the voxels of a modality's volumes, each volume counting the same.

    In the unit of the values where the volumes share one; else each volume is scaled so that its
    0.5th percentile is 0 and its 99.5th is 1.

    Args:
        modality: of all of them.
        taken: volumes looked at, and some of their voxels.
        total: how many the store has.
    """
    if not taken:
        return None
    ends = np.array([found.ends for _, found in taken.values()])
    width = ends[:, 1] - ends[:, 0]
    narrow, wide = np.percentile(width, [5, 95])
    shared = modality == "CT" or wide <= 10 * narrow
    low, high = (float(ends[:, 0].min()), float(ends[:, 1].max())) if shared else (-0.1, 1.2)
    if modality == "CT":
        low, high = max(low, -1100.0), min(high, 2000.0)
    if not charts.differ(low, high):
        return None
    scaled = (
        (found.values - (0 if shared else a)) / (1 if shared else max(b - a, 1e-9))
        for (_, found), (a, b) in zip(taken.values(), ends, strict=True)
    )
    counts = _even(scaled, low, high)
    unit = _unit(modality) if shared else "of the volume's own range"
    svg = charts.histogram(
        counts, low, high, unit=unit, title=f"Values of {modality}", size=(420, 80)
    )
    many = "volume" if total == 1 else "volumes"
    return Spread(svg, f"{modality}: voxel values in {len(taken):,} of {total:,} {many}.")


def _even(volumes: Iterable[Array], low: float, high: float) -> Array:
    """Counts in 70 bins, as if every volume had as many voxels."""
    total = np.zeros(70)
    for values in volumes:
        counts, _ = np.histogram(values, bins=70, range=(low, high))
        total += counts / max(1, len(values))
    return total
