"""Histograms of oriented gradients, as the target of masked methods."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.losses.targets import Target, differences

_BINS_2D = 9
# Images have a deviation of about 1: what is a hundred times less steep is noise of rounding.
_EPSILON = 1e-2


@lru_cache(maxsize=8)
def orientations(dims: int, device: torch.device) -> Tensor:
    """The middles of the bins, as unit vectors: float32 (bins, dims).

    A gradient and its opposite are one orientation (Dalal and Triggs 2005, sec. 6.3). In 2D nine,
    evenly over the half circle. In 3D ten, evenly over the half sphere: the axes through the
    middles of opposite faces of an icosahedron (Kläser et al. 2008, "A spatio-temporal descriptor
    based on 3D-gradients").
    """
    if dims == 2:
        angles = [(k + 0.5) * math.pi / _BINS_2D for k in range(_BINS_2D)]
        return torch.tensor([[math.cos(a), math.sin(a)] for a in angles], device=device)
    golden = (1 + math.sqrt(5)) / 2
    axes = [[1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]
    for sign in (1.0, -1.0):
        flat = [0.0, 1 / golden, sign * golden]
        axes += [flat[-turn:] + flat[:-turn] for turn in range(3)]
    return torch.tensor(axes, device=device) / math.sqrt(3)


class HOG(Target):
    """Histograms of oriented gradients (Dalal and Triggs 2005), the target of MaskFeat (Wei et al.
    2022, "Masked feature prediction for self-supervised visual pre-training", sec. 3.2).

    Every voxel votes for the orientation its gradient is nearest to, with the gradient's length;
    the votes of a cell are averaged, and the histogram h of each channel becomes
    h / sqrt(|h|² + 0.01²), so that contrast does not count, and flat places give zero.

    Args:
        cell: edge of a cell in voxels, at least 1.
    """

    def __init__(self, cell: int) -> None:
        super().__init__()
        if cell < 1:
            raise ValueError(f"a cell has at least one voxel, not {cell}")
        self.cell = cell

    def channels(self, image_channels: int, dims: int) -> int:
        """9 bins a channel in 2D, 10 in 3D."""
        return image_channels * len(orientations(dims, torch.device("cpu")))

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) -> float32 (B, C x bins, *spatial / cell), a channel's bins together.

        Raises:
            ValueError: cells do not divide the image, or an axis has one voxel alone.
        """
        batch, channels, *size = image.shape
        if any(n % self.cell for n in size):
            raise ValueError(f"cells of {self.cell} voxels do not divide an image of {size}")
        gradient = torch.stack(differences(image))
        axes = orientations(len(size), image.device).to(gradient.dtype)
        length = gradient.square().sum(0).sqrt()
        best, nearest = torch.zeros_like(length), torch.zeros_like(length, dtype=torch.int64)
        # One axis at a time, so that no more than two images are held beside the votes; in full
        # precision, which a matrix product may not have.
        for number, axis in enumerate(axes.unbind()):
            along = sum(a * g for a, g in zip(axis, gradient, strict=True))
            assert isinstance(along, Tensor)
            better = along.abs() > best
            best, nearest = torch.where(better, along.abs(), best), nearest.where(~better, number)
        votes = length.new_zeros(batch, channels, len(axes), *size)
        votes.scatter_(2, nearest[:, :, None], length[:, :, None])
        pool = F.avg_pool2d if len(size) == 2 else F.avg_pool3d
        histogram = pool(votes.flatten(0, 1), self.cell)
        histogram = histogram.reshape(batch, channels, *histogram.shape[1:])
        power = histogram.square().sum(2, keepdim=True)
        normed: Tensor = histogram * (power + _EPSILON**2).rsqrt()
        return normed.flatten(1, 2)

    def shown(self, target: Tensor) -> Tensor:
        """How much each cell prefers one orientation: the deviation of its bins, (B, C, *cells)."""
        bins = len(orientations(target.ndim - 2, torch.device("cpu")))
        return target.reshape(len(target), -1, bins, *target.shape[2:]).std(2)
