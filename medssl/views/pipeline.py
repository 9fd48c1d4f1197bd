"""From crops to views: place first, in one resampling, then intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medssl.views.draw import Draw
from medssl.views.intensity import IntensityParams, IntensitySettings
from medssl.views.resampling import copy_voxels, resample
from medssl.views.spatial import SpatialParams, SpatialSettings, displacement, view_to_crop
from medssl.views.view import View, view_spacing


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
class ViewPlan:
    """Views of one kind: two global ones, say, or six local ones.

    Attributes:
        settings: how each is drawn.
        size: voxels of each.
        count: how many of every crop.
    """

    settings: ViewSettings
    size: tuple[int, ...]
    count: int = 1


def make_view(
    batch: Tensor,
    draw: Draw,
    settings: ViewSettings,
    size: Sequence[int],
    spacing: Tensor | Sequence[float] | None = None,
    label: Tensor | None = None,
    centre: Tensor | None = None,
) -> View:
    """One view of every crop.

    Args:
        batch: crops (B, C, *crop), any type.
        draw: of the same B samples. Views of one crop need a draw each: `view_draw`.
        settings: what may change, and how far.
        size: voxels of the view.
        spacing: mm a voxel of the crops, (d,) or (B, d); None: equal along all axes.
        label: label maps (B, 1, *crop), moved with the image and read by nearest neighbour.
        centre: the middle of each view, in voxels of its crop, float32 (B, d); None: as drawn.

    Raises:
        ValueError: batch, draw, size and centre do not belong together.
    """
    if centre is not None and tuple(centre.shape) != (len(batch), len(size)):
        raise ValueError(
            f"a middle is asked for each of {len(batch)} views along {len(size)} axes, "
            f"not {tuple(centre.shape)}"
        )
    return _make(batch, draw, settings, size, spacing, label, centre)


def make_views(
    crops: Tensor,
    draw: Draw,
    plans: Sequence[ViewPlan],
    spacing: Tensor | Sequence[float] | None = None,
    label: Tensor | None = None,
) -> list[View]:
    """Any number of views of every crop, those of one plan as one batch.

    View k, counted through the plans, is what `make_view` gives with `view_draw(draw, k)`, whatever
    other views and samples are made beside it.

    Args:
        crops: (B, C, *crop), any type; read where they are.
        draw: of the same B samples.
        plans: what to make.
        spacing: mm a voxel of the crops, (d,) or (B, d); None: equal along all axes.
        label: label maps (B, 1, *crop), moved along with every view.

    Returns:
        the plans' views in their order, `count` of each plan.

    Raises:
        ValueError: crops, draw and a plan's size do not belong together, or a count is below 1.
    """
    views: list[View] = []
    for plan in plans:
        if plan.count < 1:
            raise ValueError(f"a plan asks for {plan.count} views")
        numbers = range(len(views), len(views) + plan.count)
        keys = torch.cat([view_draw(draw, number).keys for number in numbers])
        joined = _make(crops, Draw(keys), plan.settings, plan.size, spacing, label)
        views.extend(_part(joined, k * len(crops), len(crops)) for k in range(plan.count))
    return views


def view_draw(draw: Draw, number: int) -> Draw:
    """The random numbers of view `number` of the samples of `draw`."""
    return Draw(draw.fork(number + 1).bits())


def _part(view: View, first: int, count: int) -> View:
    """Samples first, ..., first + count - 1 of a batch of views; nothing is copied."""

    def cut(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.narrow(0, first, count)

    return View(
        image=view.image.narrow(0, first, count),
        theta=view.theta.narrow(0, first, count),
        label=cut(view.label),
        displacement=cut(view.displacement),
        spacing=cut(view.spacing),
        crop_size=view.crop_size,
    )


@torch.no_grad()
def _make(
    crops: Tensor,
    draw: Draw,
    settings: ViewSettings,
    size: Sequence[int],
    spacing: Tensor | Sequence[float] | None,
    label: Tensor | None,
    centre: Tensor | None = None,
) -> View:
    """Views of every crop, as many as `draw` has keys for each: row k B + b is view k of crop b."""
    dims, crop_size = crops.ndim - 2, tuple(crops.shape[2:])
    if len(size) != dims or not len(crops) or len(draw.keys) % len(crops):
        raise ValueError(
            f"crops of shape {tuple(crops.shape)} do not go with views of size {tuple(size)} "
            f"drawn for {len(draw.keys)} samples"
        )
    count = len(draw.keys) // len(crops)
    mm = torch.ones(dims) if spacing is None else torch.as_tensor(spacing, dtype=torch.float32)
    mm = mm.to(crops.device).expand(len(crops), dims).repeat(count, 1)
    spatial = SpatialParams.draw(draw.fork(0), dims, settings.spatial)
    theta = view_to_crop(spatial, crop_size, size, mm, centre)
    moved = displacement(spatial, theta, size, mm)
    padding = settings.spatial.padding
    if spatial.on_grid:
        image = copy_voxels(crops, theta, size, padding).float()
        label = None if label is None else copy_voxels(label, theta, size, padding)
    else:
        image = resample(crops, theta, size, "linear", padding, moved)
        if label is not None:
            label = resample(label, theta, size, "nearest", padding, moved)
    changes = IntensityParams.draw(draw.fork(1), settings.intensity)
    image = changes.apply(image, view_spacing(theta, mm), count, overwrite=True)
    return View(image, theta, label, moved, mm, crop_size)
