"""The convolutional encoder: the descending half of a residual U-Net."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medssl.networks.conv import ConvBlock, masked_image, visible_levels
from medssl.networks.encoder import Encoder


class UNetEncoder(Encoder):
    """Residual blocks, halving the grid from level to level (Isensee et al. 2024, "nnU-Net
    revisited", the ResEnc idea, small). The first level keeps the image's own grid: small images
    lose what matters to a coarse stem.

    Widths of 32, 64, 128, 256, 320, 320 and 1, 3, 4, 6, 6, 6 blocks are those of ResEnc itself.

    Args:
        dims: 2 or 3.
        in_channels: channels of the image.
        widths: channels of each level; level i has stride 2^i.
        blocks: residual blocks a level; a number, or one for each level.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        widths: Sequence[int] = (16, 32, 64, 128),
        blocks: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        counts = [blocks] * len(widths) if isinstance(blocks, int) else list(blocks)
        if not widths or min(counts, default=0) < 1:
            raise ValueError("a U-Net encoder needs at least one level and one block a level")
        if len(counts) != len(widths):
            raise ValueError(f"{len(widths)} widths and {len(counts)} blocks: one of each a level")
        self.dims, self.in_channels = dims, in_channels
        self.channels = tuple(widths)
        self.strides = tuple(2**level for level in range(len(widths)))
        self.layers = len(widths)
        self.levels = nn.ModuleList()
        inputs = in_channels
        for level, (width, count) in enumerate(zip(widths, counts, strict=True)):
            first = ConvBlock(dims, inputs, width, stride=1 if level == 0 else 2)
            rest = (ConvBlock(dims, width, width) for _ in range(count - 1))
            self.levels.append(nn.ModuleList([first, *rest]))
            inputs = width

    def layer_of(self, name: str) -> int:
        """The level."""
        return int(name.split(".")[1])

    def forward(
        self, x: Tensor, visible: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """See `Encoder.forward`."""
        self.check(x, visible, mask_token)
        levels = visible_levels(visible, x.shape[2:], self.strides, x.dtype)
        x = masked_image(x, visible)
        features = []
        for blocks, seen in zip(self.levels, levels, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, seen)
            features.append(x)
        return features
