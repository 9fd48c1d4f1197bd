"""What a preview shows of points and of similarities to them."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.methods.masked import in_range_of


def marked(image: Tensor, point: Tensor) -> Tensor:
    """The slice of a volume that has a point, everywhere along the last axis, with a cross there.

    Args:
        image: (B, 1, *size).
        point: voxels (B, d, 1).

    Returns:
        (B, 1, *size); the cross is as bright as the brightest voxel, its rim as the darkest.
    """
    point = point.round()
    if image.ndim == 5:
        depth = point[:, 2, 0].long().clamp(0, image.shape[4] - 1)
        index = depth.reshape(-1, 1, 1, 1, 1).expand(*image.shape[:4], 1)
        image = image.gather(4, index).expand(image.shape)
    axes = (torch.arange(length, device=image.device) for length in image.shape[2:4])
    first, second = ((axis - point[:, k]).abs() for k, axis in enumerate(axes))
    away = first[:, :, None] + second[:, None]
    away = away.reshape(len(image), 1, *away.shape[1:], *(1,) * (image.ndim - 4))
    every = tuple(range(1, image.ndim))
    rimmed = image.where(away != 2, image.amin(every, keepdim=True))
    return rimmed.where(away > 1, image.amax(every, keepdim=True))


def shown(similarity: Tensor, image: Tensor) -> Tensor:
    """A similarity (B, 1, *size), of a volume the largest along its last axis, stretched to the
    range of the image (B, 1, *size), beside which it is shown."""
    if similarity.ndim == 5:
        similarity = similarity.amax(4, keepdim=True).expand(similarity.shape)
    return in_range_of(image, similarity, similarity)[0]
