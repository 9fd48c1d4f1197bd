"""The pictures of the report, from what the stages left behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medssl.demo.figures import PLANES, Plane, View, busiest, mosaic
from medssl.demo.measure import Prediction, Reconstruction
from medssl.phantom import Phantom

CT_WINDOW = (-160.0, 240.0)
CT_WINDOW_TEXT = "W 400\nL 40 HU"
WIDE_WINDOW = (-1000.0, 400.0)
WIDE_WINDOW_TEXT = "W 1400\nL -300 HU"
MR_WINDOW_TEXT = "W 0 to\n99.5th pct."


def window_of(image: np.ndarray, modality: str) -> tuple[float, float]:
    """The ends of the grey scale for one image."""
    if modality == "CT":
        return CT_WINDOW
    return 0.0, float(np.percentile(image, 99.5))


def _shown(phantom: Phantom) -> list[int]:
    """The organs that slices are chosen to show."""
    hidden = ("lungs", "spine", "lesion")
    return [value for value, name in phantom.label_names.items() if name not in hidden]


def gallery(phantoms: Sequence[Phantom]) -> bytes:
    """One row per patient: axial, coronal and sagittal slices through its organs."""
    rows = []
    for number, phantom in enumerate(phantoms):
        image, label = phantom.image[0], phantom.label[0]
        low, high = window_of(image, phantom.modality)
        organs = _shown(phantom)
        middle = image.shape[0] // 2
        row = []
        for plane in PLANES:
            index = middle if plane == "sagittal" else busiest(label, plane, organs)
            title = plane.capitalize() if number == 0 else ""
            row.append(View(image, phantom.spacing, plane, index, low, high, title))
        rows.append(row)
    mark = CT_WINDOW_TEXT if phantoms[0].modality == "CT" else MR_WINDOW_TEXT
    return mosaic(rows, mark=mark)


def reconstructions(item: Reconstruction) -> bytes:
    """Masked input, reconstruction and original, axial above coronal."""
    low, high = window_of(item.original, item.modality)
    mark = MR_WINDOW_TEXT
    if item.modality == "CT":
        (low, high), mark = WIDE_WINDOW, WIDE_WINDOW_TEXT
    rows = []
    planes: tuple[Plane, ...] = ("axial", "coronal")
    for plane in planes:
        axis = 2 if plane == "axial" else 1
        index = round(item.original.shape[axis] * (0.52 if item.modality == "CT" else 0.55))
        parts = (
            ("What the network sees", item.masked),
            ("Its reconstruction", item.reconstruction),
            ("Original", item.original),
        )
        rows.append(
            [
                View(part, item.spacing, plane, index, low, high, name if plane == "axial" else "")
                for name, part in parts
            ]
        )
    return mosaic(rows, mark=mark)


def overlays(phantom: Phantom, scratch: Prediction, pretrained: Prediction) -> bytes:
    """One held-out patient: image, truth, both predictions with the truth's outline."""
    image, truth = phantom.image[0], phantom.label[0]
    low, high = window_of(image, phantom.modality)
    organs = _shown(phantom)
    rows = []
    planes: tuple[Plane, ...] = ("axial", "coronal")
    for plane in planes:
        index = busiest(truth, plane, organs)
        columns = (
            ("Image", None, None),
            ("Truth", truth, None),
            ("From scratch", scratch.label, truth),
            ("Pretrained", pretrained.label, truth),
        )
        rows.append(
            [
                View(
                    image, phantom.spacing, plane, index, low, high,
                    title if plane == "axial" else "", label, outline,
                )
                for title, label, outline in columns
            ]
        )  # fmt: skip
    return mosaic(rows, mark=CT_WINDOW_TEXT, names=phantom.label_names)
