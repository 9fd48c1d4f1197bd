"""Vectors that say where in the body a voxel is, from an encoder's feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.conv import ConvBlock, channels_last, conv
from medssl.networks.encoder import Encoder
from medssl.networks.patches import crop_to

_CHANNELS = 8  # upsampled at once


class PlaceMaps(NamedTuple):
    """Vectors of length 1 for every cell of an image, float32.

    Attributes:
        fine: (B, dim, *ceil(spatial / fine stride)): where exactly.
        coarse: (B, dim, *ceil(spatial / deepest stride)): in which part of the body.
    """

    fine: Tensor
    coarse: Tensor


class PlacePoints(NamedTuple):
    """Vectors of length 1 for P points of every image, float32.

    Attributes:
        fine: (B, P, dim).
        coarse: (B, P, dim).
    """

    fine: Tensor
    coarse: Tensor


class PlaceHeads(nn.Module):
    """A feature pyramid (Lin et al. 2017, "Feature pyramid networks", sec. 3) down to the fine map,
    and two convolutions on the deepest map for the coarse one.

    Args:
        encoder: whose maps it takes; only its sizes are kept.
        dim: length of the vectors.
        fine_stride: voxels of the image per cell of the fine map.
        width: channels of the pyramid and inside the heads.

    Raises:
        ValueError: the encoder's strides do not lead to the fine map.
    """

    def __init__(self, encoder: Encoder, dim: int, fine_stride: int, width: int) -> None:
        super().__init__()
        dims, deepest = encoder.dims, encoder.strides[-1]
        used = [stride for stride in encoder.strides if stride >= fine_stride]
        ladder = used if used and used[0] == fine_stride else [fine_stride, *used]
        if not used or any(coarse % fine for fine, coarse in pairwise(ladder)):
            raise ValueError(
                f"an encoder of strides {encoder.strides} leads to no fine map of stride "
                f"{fine_stride}: take a fine_stride that divides a stride of the encoder"
            )
        self._first = len(encoder.strides) - len(used)
        self._factors = [coarse // fine for fine, coarse in pairwise(ladder)]
        channels = encoder.channels[self._first :]
        self.lateral = nn.ModuleList(conv(dims, c, width, 1, bias=True) for c in channels)
        # Where the encoder has no map as fine as that, the image itself is the last lateral.
        self.stem = None
        if len(ladder) > len(used):
            self.stem = ConvBlock(dims, encoder.in_channels, width, fine_stride)
        self.fine = _head(dims, width, width, dim)
        self.coarse = _head(dims, encoder.channels[-1], width, dim)
        self.strides = (fine_stride, deepest)

    def forward(self, features: Sequence[Tensor], image: Tensor) -> PlaceMaps:
        """The encoder's maps, finest first, and the image (B, in_channels, *spatial)."""
        levels = [
            lateral(level)
            for lateral, level in zip(self.lateral, features[self._first :], strict=True)
        ]
        if self.stem is not None:
            levels.insert(0, self.stem(channels_last(image)))
        x = levels.pop()
        for level, factor in zip(reversed(levels), reversed(self._factors), strict=True):
            up = F.interpolate(x, scale_factor=factor, mode="nearest")
            x = crop_to(up, level.shape[2:]) + level
        fine, coarse = self.fine(x), self.coarse(channels_last(features[-1]))
        return PlaceMaps(F.normalize(fine.float()), F.normalize(coarse.float()))


def _head(dims: int, inputs: int, width: int, outputs: int) -> nn.Module:
    smooth = conv(dims, inputs, width, 3, bias=True)
    return nn.Sequential(smooth, nn.LeakyReLU(0.01), conv(dims, width, outputs, 1, bias=True))


class PlaceEmbedding(nn.Module):
    """An encoder and the heads that give each voxel a vector of its place in the body (Yan et al.
    2022, "SAM: self-supervised learning of pixel-wise anatomical embeddings", sec. III-A).

    Its weights are ``encoder.*`` and ``embedding.*``. Points are voxels of the image, voxel centres
    at whole numbers, as :class:`medssl.views.View` counts them.

    Args:
        encoder: any.
        dim: length of the vectors.
        fine_stride: voxels per cell of the fine map; the coarse one has the encoder's deepest
            stride.
        width: channels of the feature pyramid.

    Attributes:
        strides: voxels per cell of the fine and of the coarse map.

    Raises:
        ValueError: a size is below 1, or the encoder's strides do not lead to the fine map.
    """

    def __init__(
        self, encoder: Encoder, dim: int = 128, fine_stride: int = 2, width: int = 64
    ) -> None:
        super().__init__()
        if min(dim, fine_stride, width) < 1:
            raise ValueError("an embedding has dim, fine_stride and width of at least 1")
        self.encoder = encoder
        self.embedding = PlaceHeads(encoder, dim, fine_stride, width)
        self.dim, self.strides = dim, self.embedding.strides

    def forward(self, image: Tensor) -> PlaceMaps:
        """(B, in_channels, *spatial) -> its two maps."""
        maps: PlaceMaps = self.embedding(self.encoder(image), image)
        return maps

    def sample(self, maps: PlaceMaps, points: Tensor) -> PlacePoints:
        """The vectors at points of the images: voxels (B, d, P), linear between cells."""
        fine, coarse = (
            sample_cells(cells, points, stride)
            for cells, stride in zip(maps, self.strides, strict=True)
        )
        return PlacePoints(fine, coarse)

    def similarity(
        self, points: PlacePoints, maps: PlaceMaps, size: Sequence[int] | None = None
    ) -> Tensor:
        """How alike points (B or 1, P) are to every place of other images.

        Args:
            points: of one image, which go with all, or of as many as there are maps of.
            maps: of the images.
            size: of the images, for every voxel; None: for every cell of the fine map.

        Returns:
            float32 (B, P, *size or fine grid), -1 to 1: the mean of the fine and the coarse cosine
            (sec. III-C of the paper; it is their sum there). Between the centres of cells, vectors
            are those of :meth:`sample`.
        """
        found = []
        for vectors, cells, stride in zip(points, maps, self.strides, strict=True):
            factor = stride if size is not None else stride // self.strides[0]
            alike = cosines(vectors, cells)
            if factor > 1:
                alike = _between(alike, cells, factor, size or maps.fine.shape[2:])
            found.append(alike)
        return (found[0] + found[1]) / 2

    def find(self, points: PlacePoints, maps: PlaceMaps) -> tuple[Tensor, Tensor]:
        """Where in other images points (B, P) are.

        Returns:
            voxels, float32 (B, d, P), centres of cells of the fine map; and the similarity there,
            float32 (B, P).
        """
        score, index = self.similarity(points, maps).flatten(2).max(dim=2)
        return self.centres(index, maps.fine.shape[2:]), score

    def centres(self, index: Tensor, grid: Sequence[int]) -> Tensor:
        """Row-major numbers of cells of the fine map, (B, P) -> voxels, float32 (B, d, P)."""
        return cell_centres(index, grid, self.strides[0])


def sample_cells(cells: Tensor, points: Tensor, stride: int) -> Tensor:
    """Vectors at points, linear between the centres of cells, beyond them the nearest; length 1.

    Args:
        cells: (B, D, *grid); cell j covers voxels j stride to (j + 1) stride - 1.
        points: voxels of the image (B, d, P).
        stride: voxels per cell.

    Returns:
        (B, P, D), of the type of `cells`.
    """
    extent = torch.tensor([n * stride for n in cells.shape[2:]])
    extent = extent.to(points.device, non_blocking=True)
    # grid_sample counts from -1 to 1 across the map, last axis first.
    where = ((2 * points.movedim(1, 2) + 1) / extent - 1).flip(2).to(cells.dtype)
    dims = points.shape[1]
    grid = where.reshape(*where.shape[:2], *(1,) * (dims - 1), dims)
    found = F.grid_sample(cells, grid, padding_mode="border", align_corners=False)
    return F.normalize(found.flatten(2).transpose(1, 2), dim=2)


def cosines(vectors: Tensor, cells: Tensor) -> Tensor:
    """Vectors (B or 1, P, D) with every cell of (B, D, *grid), both of length 1: (B, P, *grid)."""
    with torch.autocast(cells.device.type, enabled=False):
        found = vectors @ cells.flatten(2)
    return found.reshape(*found.shape[:2], *cells.shape[2:])


def cell_centres(index: Tensor, grid: Sequence[int], stride: int) -> Tensor:
    """Row-major numbers of cells (B, P) -> the voxels of their centres, float32 (B, d, P)."""
    axes = []
    for length in reversed(grid):
        axes.append(index % length)
        index = index // length
    cells = torch.stack(axes[::-1], dim=1).float()
    return (cells + 0.5) * stride - 0.5


def _between(alike: Tensor, cells: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """Cosines with vectors that are linear between cells, and of length 1 again.

    The product with such a vector is linear in the products with its cells; what is not is its
    length, which does not depend on the points. Channels by a few, as the vectors of all voxels of
    a window would take more memory than all else.

    Args:
        alike: cosines with the cells, (B, P, *grid).
        cells: (B, D, *grid).
        factor: places per cell along each axis.
        size: places along each axis; cells end where they do, or beyond.

    Returns:
        (B, P, *size).
    """
    mode = "bilinear" if cells.ndim == 4 else "trilinear"

    def finer(values: Tensor) -> Tensor:
        return crop_to(F.interpolate(values, scale_factor=factor, mode=mode), size)

    parts = torch.split(cells, _CHANNELS, dim=1)
    length = torch.stack([finer(some).square().sum(1, keepdim=True) for some in parts]).sum(0)
    return finer(alike) / length.sqrt().clamp(min=1e-6)
