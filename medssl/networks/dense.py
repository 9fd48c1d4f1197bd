"""Heads on every cell of an encoder's feature map, for methods that compare places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.encoder import Encoder
from medssl.networks.heads import Projector, pooled
from medssl.networks.patches import crop_to


def local_features(features: Tensor) -> Tensor:
    """Every cell of a feature map as a row, in row-major order: (B, C, *grid) -> (B, P, C)."""
    return features.flatten(2).transpose(1, 2)


class DenseProjector(nn.Module):
    """A projector at every cell of one of the encoder's maps: convolutions of 1 voxel with batch
    norm between them, the statistics being those of all cells of all samples.

    A cell is told by that map and by what the coarser ones say at its place (as hypercolumns,
    Hariharan et al. 2015): so the loss reaches the deepest layers whatever the level.

    Args:
        encoder: whose maps it takes.
        level: number of the map whose cells are projected, 0 the finest.
        hidden: width of the hidden layers.
        outputs: width of the projection.
        layers: how many, at least one.
    """

    def __init__(
        self, encoder: Encoder, level: int, hidden: int, outputs: int, layers: int = 2
    ) -> None:
        super().__init__()
        self._level = level
        self._times = [stride // encoder.strides[level] for stride in encoder.strides[level:]]
        self.mlp = Projector(sum(encoder.channels[level:]), hidden, outputs, layers)

    def forward(self, features: list[Tensor]) -> Tensor:
        """The encoder's maps [(B, C, *grid)], finest first -> (B, P, outputs), P cells of the
        level's map in row-major order."""
        grid = features[self._level].shape[2:]
        maps = [
            features[self._level + k]
            if times == 1
            else crop_to(F.interpolate(features[self._level + k], scale_factor=times), grid)
            for k, times in enumerate(self._times)
        ]
        rows = local_features(maps[0] if len(maps) == 1 else torch.cat(maps, dim=1))
        projected: Tensor = self.mlp(rows.flatten(0, 1))
        return projected.reshape(*rows.shape[:2], -1)


class DenseEmbedder(nn.Module):
    """An encoder with a projector of its cells and one of its pooled features: what has a teacher.

    Args:
        encoder: any.
        cells: takes its maps.
        whole: takes its pooled features, (B, channels).
        level: of the map that is returned.
    """

    def __init__(self, encoder: Encoder, cells: nn.Module, whole: nn.Module, level: int) -> None:
        super().__init__()
        self.encoder, self.cells, self.whole, self._level = encoder, cells, whole, level

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, in_channels, *spatial) -> see :func:`dense_embedding`."""
        return dense_embedding(self.encoder, self.cells, self.whole, self._level, x)


def dense_embedding(
    encoder: Encoder, cells: nn.Module, whole: nn.Module, level: int, x: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (B, in_channels, *spatial) in one pass through an encoder and both its projectors.

    Returns:
        the pooled features (B, channels), what `whole` makes of them, the features of the level's
        P cells (B, P, channels of the level), and what `cells` makes of the maps, (B, P, D).
    """
    features = encoder(x)
    means = pooled(features)
    return means, whole(means), local_features(features[level]), cells(features)
