"""Where in a crop a view may lie, and choosing such a place: points in voxels, batched.

A place is the middle of a view. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def free_range(
    crop: Sequence[int], view: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Lowest and highest place of a view that lies wholly in its crop: float32 (d,) each.

    Args:
        crop: voxels of the crop along each axis.
        view: voxels of the view, before any magnification.
        device: of the result.

    Raises:
        ValueError: the view is larger than the crop.
    """
    if len(crop) != len(view) or any(v > c for c, v in zip(crop, view, strict=True)):
        raise ValueError(f"views of {list(view)} voxels do not lie in crops of {list(crop)}")
    low = [(v - 1) / 2 for v in view]
    high = [c - 1 - n for c, n in zip(crop, low, strict=True)]
    low_to_high = torch.tensor([low, high]).to(device, non_blocking=True)
    return low_to_high[0], low_to_high[1]


def anywhere(unit: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), (B, d, *any), as places between ``low`` and ``high``, (d,)."""
    shape = (-1, *(1,) * (unit.ndim - 2))
    return low.reshape(shape) + unit * (high - low).reshape(shape)


def inside(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The nearest places between ``low`` and ``high``, (d,): (B, d, *any) -> the same."""
    shape = (-1, *(1,) * (points.ndim - 2))
    return torch.minimum(torch.maximum(points, low.reshape(shape)), high.reshape(shape))


def displaced(
    place: Tensor, low: Tensor, high: Tensor, least: Tensor, axes: Sequence[int], unit: Tensor
) -> Tensor:
    """Places that lie elsewhere: along one axis, drawn at random, at least ``least`` away; along
    the others anywhere.

    Args:
        place: float32 (B, d), between ``low`` and ``high``.
        low, high: of all places, (d,).
        least: voxels, (d,).
        axes: those to move along; ``high - low`` is at least twice ``least`` there.
        unit: uniform in [0, 1), (B, d + 1).

    Returns:
        float32 (B, d), between ``low`` and ``high``.
    """
    found = anywhere(unit[:, 1:], low, high)
    number = (unit[:, :1] * len(axes)).long().clamp(max=len(axes) - 1)
    axis = torch.tensor(list(axes)).to(place.device, non_blocking=True)[number[:, 0]]
    before = (place - least - low).clamp(min=0)
    after = (high - place - least).clamp(min=0)
    along = unit[:, 1:] * (before + after)
    away = torch.where(along < before, low + along, place + least + (along - before))
    chosen = torch.arange(place.shape[1], device=place.device) == axis[:, None]
    return torch.where(chosen, inside(away, low, high), found)


def values_at(image: Tensor, points: Tensor) -> Tensor:
    """The voxels nearest to points of images, those outside being of the edge.

    Args:
        image: (B, C, *size).
        points: voxels, (B, d, P).

    Returns:
        (B, C, P), of the image's type.
    """
    index = torch.zeros_like(points[:, 0], dtype=torch.int64)
    for axis, length in enumerate(image.shape[2:]):
        index = index * length + points[:, axis].round().long().clamp(0, length - 1)
    return image.flatten(2).gather(2, index[:, None].expand(-1, image.shape[1], -1))


def first_good(good: Tensor, preferred: Tensor, score: Tensor) -> Tensor:
    """Which candidate to take: the first good and preferred one, else the first good one, else that
    of the highest score.

    Args:
        good, preferred: bool (B, P).
        score: float32 (B, P), 1 at most.

    Returns:
        int64 (B,).
    """
    return torch.where(good, 2.0 + preferred, score.clamp(max=1.0)).argmax(1)
