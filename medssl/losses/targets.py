"""What a masked method asks of a hidden place: its voxels, how steep they are, or their edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Target(nn.Module):
    """Turns an image into what is predicted of it; this one leaves it as it is.

    Attributes:
        cell: edge in voxels of what one place of the target stands for.
    """

    cell: int = 1

    def channels(self, image_channels: int, dims: int) -> int:
        """Channels of the target of an image with so many."""
        return image_channels

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) -> (B, channels, *spatial / cell), without gradient."""
        return image.detach()

    def shown(self, target: Tensor) -> Tensor:
        """A target, or a prediction of it, as images of C channels, for the eye: (B, C, ...)."""
        return target


class GradientMagnitude(Target):
    """The length of the gradient of every channel, per voxel: where edges are, whatever the
    brightness on their sides.

    By finite differences: of both neighbours, halved; at the border, of the one there is.
    """

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial), at least two voxels along each axis, -> the same shape, float32.

        Raises:
            ValueError: an axis has one voxel alone.
        """
        first, *rest = differences(image)
        total = first.square_()
        for other in rest:
            total.addcmul_(other, other)
        return total.sqrt_()


@torch.no_grad()
def differences(image: Tensor) -> list[Tensor]:
    """The derivative along every spatial axis per voxel: (B, C, *spatial) each, float32, without
    gradient.

    Raises:
        ValueError: an axis has one voxel alone.
    """
    if min(image.shape[2:]) < 2:
        raise ValueError(f"an image of {tuple(image.shape[2:])} voxels has no gradient")
    wide = image if image.dtype == torch.float64 else image.float()
    return [_difference(wide, axis) for axis in range(2, image.ndim)]


def _difference(image: Tensor, axis: int) -> Tensor:
    """What `torch.gradient` gives along an axis, several times as fast."""
    length, found = image.shape[axis], torch.empty_like(image)

    def between(first: int, step: int, count: int, into: int) -> Tensor:
        low, high = (image.narrow(axis, n, count) for n in (first, first + step))
        return torch.sub(high, low, out=found.narrow(axis, into, count))

    between(0, 2, length - 2, into=1).div_(2)
    between(0, 1, 1, into=0)
    between(length - 2, 1, 1, into=length - 1)
    return found
