"""From crops to views: place first, in one resampling, then intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from medssl.views.draw import Draw
from medssl.views.intensity import IntensityParams, IntensitySettings
from medssl.views.spatial import SpatialParams, SpatialSettings, resample, view_to_crop


@dataclass(frozen=True)
class ViewSettings:
    """How a view is made from a crop. The defaults change nothing.

    Attributes:
        spatial: changes of place.
        intensity: changes of intensity.
    """

    spatial: SpatialSettings = field(default_factory=SpatialSettings)
    intensity: IntensitySettings = field(default_factory=IntensitySettings)


@dataclass(frozen=True)
class View:
    """Views of a batch of crops.

    Attributes:
        image: float32 (B, C, *size).
        theta: float32 (B, d, d + 1), voxel of the view -> voxel of its crop (`view_to_crop`).
        label: (B, 1, *size) of the labels' type; None where no labels were given.
    """

    image: Tensor
    theta: Tensor
    label: Tensor | None = None


def make_view(
    batch: Tensor,
    draw: Draw,
    settings: ViewSettings,
    size: Sequence[int],
    spacing: Tensor | Sequence[float] | None = None,
    label: Tensor | None = None,
) -> View:
    """One view of every crop.

    Args:
        batch: crops (B, C, *crop), any type.
        draw: of the same B samples. Views of one crop need a stream each: `draw.fork(number)`.
        settings: what may change, and how far.
        size: voxels of the view.
        spacing: mm a voxel of the crops, (d,) or (B, d); None: equal along all axes.
        label: label maps (B, 1, *crop), moved with the image and read by nearest neighbour.

    Raises:
        ValueError: batch, draw and size do not belong together.
    """
    dims = batch.ndim - 2
    if len(size) != dims or len(draw.keys) != len(batch):
        raise ValueError(
            f"crops of shape {tuple(batch.shape)} do not go with views of size {tuple(size)} "
            f"drawn for {len(draw.keys)} samples"
        )
    spatial = SpatialParams.draw(draw.fork(0), dims, settings.spatial)
    theta = view_to_crop(spatial, batch.shape[2:], size, spacing)
    padding = settings.spatial.padding
    image = resample(batch, theta, size, "linear", padding)
    image = IntensityParams.draw(draw.fork(1), settings.intensity).apply(image)
    if label is not None:
        label = resample(label, theta, size, "nearest", padding)
    return View(image, theta, label)
