"""Figures of a run: previews of what a method sees and does, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


def middle_slice(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The picture of (C, *spatial), first channel: 2D as it is; 3D the middle axial slice.

    A 3D slice is turned so that anterior is up and the patient's right is on the left, as
    radiologists hang it.
    """
    plane: npt.NDArray[Any] = image[0]
    if image.ndim == 3:
        return plane
    plane = plane[:, :, image.shape[3] // 2]
    # RAS+: x grows to the patient's left-hand side of the picture after both flips.
    return plane.T[::-1, ::-1]


def preview_figure(images: Mapping[str, Tensor], most: int = 4) -> Figure:
    """One row per sample, one column per named image (B, C, *spatial).

    All columns of a row share the grey scale of its first, so that they can be compared.
    """
    from matplotlib.figure import Figure

    names = list(images)
    count = min(most, len(next(iter(images.values()))))
    figure = Figure(figsize=(2.2 * len(names), 2.2 * count + 0.3), layout="constrained")
    axes = figure.subplots(count, len(names), squeeze=False)
    for i in range(count):
        planes = [middle_slice(images[name][i].detach().float().cpu().numpy()) for name in names]
        low, high = np.percentile(planes[0], (1, 99))
        for axis, name, plane in zip(axes[i], names, planes, strict=True):
            axis.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
            axis.set_axis_off()
            if i == 0:
                axis.set_title(name, fontsize=9)
    return figure


def curve_figure(rows: Sequence[Mapping[str, float]], keys: Sequence[str], title: str) -> Figure:
    """Metrics over steps; ``rows`` as in :class:`medssl.training.loop.History`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    for key in keys:
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            axis.plot(*zip(*points, strict=True), label=key)
    axis.set_xlabel("step")
    axis.set_title(title)
    axis.legend()
    return figure
