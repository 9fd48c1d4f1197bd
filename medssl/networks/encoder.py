"""What every encoder offers."""

from __future__ import annotations

from torch import Tensor, nn


class Encoder(nn.Module):
    """Turns an image into feature maps, finest first.

    Attributes:
        dims: 2 or 3.
        in_channels: channels of the image.
        channels: channels of each feature map.
        strides: voxels of the image per voxel of each feature map, ascending. A map's size is
            ceil(image size / stride).
        local: whether a feature sees its neighbourhood only, so that a decoder must add context.
        layers: how many layers, one behind the other, its parameters belong to.
    """

    dims: int
    in_channels: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    local: bool = True
    layers: int = 1

    def layer_of(self, name: str) -> int:
        """Which layer a parameter belongs to, by its name in this module: 0 reads the image."""
        return 0

    def forward(self, x: Tensor, visible: Tensor | None = None) -> list[Tensor]:
        """Feature maps [(B, channels[i], *ceil(spatial / strides[i]))].

        Args:
            x: (B, in_channels, *spatial).
            visible: bool (B, 1, *grid), True = visible. With it, masked positions are zero in every
                map and do not influence the rest.

        Raises:
            ValueError: the shape of x does not fit.
        """
        raise NotImplementedError

    def check(self, x: Tensor) -> None:
        """Raises ValueError where x is not (B, in_channels, *spatial) with `dims` spatial axes."""
        if x.ndim != self.dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"this encoder reads {self.dims}D images of {self.in_channels} channel(s), "
                f"(B, {self.in_channels}, *spatial), not {tuple(x.shape)}"
            )
