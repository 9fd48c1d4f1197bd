"""Small networks on top of an encoder's features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medssl.networks.encoder import Encoder
from medssl.networks.norms import BatchNorm
from medssl.networks.patches import join_patches


def pooled(features: Sequence[Tensor]) -> Tensor:
    """Mean over space of the deepest feature map: [(B, C, *spatial)] -> (B, C)."""
    return features[-1].flatten(2).mean(dim=2)


class Projector(nn.Sequential):
    """An MLP with batch norm between its layers (Chen et al. 2020, sec. 2.1).

    Args:
        inputs: width of the pooled features.
        hidden: width of the hidden layers.
        outputs: width of the projection.
        layers: number of linear layers, at least one.

    Shape: (B, inputs) -> (B, outputs). In training B must be at least 2.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int = 2) -> None:
        if layers < 1:
            raise ValueError("a projector has at least one layer")
        modules: list[nn.Module] = []
        for _ in range(layers - 1):
            modules += [nn.Linear(inputs, hidden, bias=False), BatchNorm(hidden), nn.ReLU()]
            inputs = hidden
        super().__init__(*modules, nn.Linear(inputs, outputs))


class Embedder(nn.Module):
    """An encoder and the projector on its pooled features: what has a teacher.

    Args:
        encoder: any; its deepest feature map is pooled.
        projector: takes (B, channels).
    """

    def __init__(self, encoder: Encoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, in_channels, *spatial) -> features (B, channels) and projections (B, D)."""
        features = pooled(self.encoder(x))
        return features, self.projector(features)


class PatchHead(nn.Module):
    """A linear layer from every place of the deepest feature map to the patch of the image that it
    stands for: the light head of SimMIM (Xie et al. 2022, sec. 3.3) and GMML.

    Args:
        encoder: whose features it takes.
        channels: of what is predicted; None: the image's.
        cell: voxels of the image per voxel of what is predicted; divides the total stride.
    """

    def __init__(self, encoder: Encoder, channels: int | None = None, cell: int = 1) -> None:
        super().__init__()
        stride = encoder.strides[-1]
        if stride % cell:
            raise ValueError(f"cells of {cell} voxels do not divide the encoder's stride {stride}")
        self._patch = stride // cell
        outputs = (channels or encoder.in_channels) * self._patch**encoder.dims
        self.linear = nn.Linear(encoder.channels[-1], outputs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """[(B, C, *grid)] -> (B, channels, *grid x stride / cell)."""
        grid = features[-1].shape[2:]
        predicted = self.linear(features[-1].flatten(2).transpose(1, 2))
        return join_patches(predicted, grid, [n * self._patch for n in grid])


class ClassificationHead(nn.Module):
    """A linear layer on the pooled features.

    Args:
        inputs: channels of the deepest feature map.
        classes: number of logits.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """[(B, C, *spatial)] -> logits (B, classes)."""
        logits: Tensor = self.linear(pooled(features))
        return logits
