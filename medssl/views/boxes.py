"""Views of boxes: parts of a crop along its axes, of any size and place, in one resampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medssl.views.resampling import resample
from medssl.views.view import View

Edges = tuple[Tensor, Tensor]
"""Where boxes begin and end along each axis, in voxels of their crops, float32 (B, d) each. Voxel 0
reaches from -0.5 to 0.5."""


def box_within(edges: Edges, sides: Tensor, unit: Tensor) -> Edges:
    """Smaller boxes, anywhere inside larger ones: whole voxels from where those begin.

    So a box that is as long along each axis is read between voxels alike along each: an axis along
    which it has no room would else be the only one that is not smoothed.

    Args:
        edges: the larger ones.
        sides: of the smaller ones, in voxels of the crop, (B, d).
        unit: where each lies, from 0, at the one end of its room, to below 1, (B, d).
    """
    first, last = edges
    room = (last - first - sides).clamp(min=0)
    # A side that was computed may be longer than it should be by a rounding.
    start = first + (unit * ((room + 1e-4).floor() + 1)).floor()
    return start, start + sides


@torch.no_grad()
def box_view(crops: Tensor, edges: Edges, size: Sequence[int], spacing: Tensor) -> View:
    """A box of every crop as a view.

    A box that is larger than its view is read at points, without a filter against aliasing.

    Args:
        crops: (B, C, *crop), any type.
        edges: of the boxes.
        size: voxels of the view.
        spacing: mm a voxel of the crops, (B, d).

    Raises:
        ValueError: the shapes do not belong together.
    """
    first, last = edges
    expected = (len(crops), crops.ndim - 2)
    if first.shape != expected or last.shape != expected or len(size) != expected[1]:
        raise ValueError(
            f"boxes with edges {tuple(first.shape)} and {tuple(last.shape)} and views of "
            f"{list(size)} voxels do not go with crops of shape {tuple(crops.shape)}"
        )
    step = (last - first) / torch.tensor(size).to(first.device, non_blocking=True)
    theta = torch.cat((torch.diag_embed(step), (first + step / 2)[..., None]), dim=2)
    image = resample(crops, theta, size)
    return View(image, theta, spacing=spacing, crop_size=tuple(crops.shape[2:]))
