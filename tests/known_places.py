"""An embedding that is right by construction: every voxel holds a number of its place."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.networks import PlaceEmbedding, PlaceMaps, build_encoder


class KnownPlaces(PlaceEmbedding):
    """Reads the place from the intensity, which is -1 to 1: equal intensities are equal places."""

    def __init__(self, dims: int, window: int = 0) -> None:
        super().__init__(build_encoder("unet", dims, 1, widths=[4, 8]), 2, fine_stride=1, width=4)
        self.window, self.seen = window, 0

    def forward(self, image: Tensor) -> PlaceMaps:
        """(B, 1, *spatial), even sizes."""
        self.seen = max(self.seen, image[0, 0].numel())
        angle = 0.9 * math.pi * image
        fine = torch.cat((angle.cos(), angle.sin()), dim=1)
        pool = F.avg_pool2d if fine.ndim == 4 else F.avg_pool3d
        coarse = torch.ones_like(pool(fine, 2))
        return PlaceMaps(fine, F.normalize(coarse))
