"""The descending half of MedNeXt, in 2D and 3D from one definition."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medssl.networks.conv import MaskedNorm, conv, masked_image, visible_levels
from medssl.networks.encoder import Encoder


class MedNeXtBlock(nn.Module):
    """MONAI's MedNeXt block, which also works on partly masked images: a depthwise convolution and
    an instance norm, a wider 1x1 layer with GELU, and one back, around a shortcut.

    Args:
        dims: 2 or 3.
        inputs: channels in.
        outputs: channels out.
        expansion: width of the inner layer over `inputs`.
        kernel: side of the depthwise convolution, odd.
        down: whether to halve the grid.
    """

    def __init__(
        self, dims: int, inputs: int, outputs: int, expansion: int, kernel: int, down: bool
    ) -> None:
        super().__init__()
        # Here, because MONAI takes seconds to import.
        from monai.networks.blocks import mednext_block

        kind = mednext_block.MedNeXtDownBlock if down else mednext_block.MedNeXtBlock
        self.block = kind(inputs, outputs, expansion, kernel, True, "group", f"{dims}d")
        self.block.norm = MaskedNorm(inputs, groups=inputs)
        self.down = down

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """(B, inputs, *spatial) -> (B, outputs, *spatial), halved and rounded up with `down`.

        Args:
            x: the input; zero wherever masked.
            visible: 1 = visible, of x's type, (B, 1, *spatial of the OUTPUT); None: nothing is
                masked.
        """
        block = self.block
        if visible is None:
            dense: Tensor = block(x)
            return dense
        y = block.norm(block.conv1(x), visible)
        # What follows mixes no positions.
        y = block.conv3(block.act(block.conv2(y)))
        shortcut = block.res_conv(x) if self.down else x
        masked: Tensor = (y + shortcut) * visible
        return masked


class MedNeXt(Encoder):
    """The encoder and bottleneck of MedNeXt (Roy et al. 2023), of MONAI's blocks.

    The defaults are MedNeXt-S. The stem is a 1x1 convolution on the image's own grid.

    Args:
        dims: 2 or 3.
        in_channels: channels of the image.
        filters: channels of the first level; they double from level to level, whose strides are
            1, 2, 4 and so on.
        blocks: blocks of each level, the last of which is the bottleneck.
        expansion: width of a block's inner layer over its channels; a number, or one a
            level.
        kernel: side of the depthwise convolutions, odd.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        filters: int = 32,
        blocks: Sequence[int] = (2, 2, 2, 2, 2),
        expansion: int | Sequence[int] = 2,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        ratios = [expansion] * len(blocks) if isinstance(expansion, int) else list(expansion)
        if filters < 1 or min(blocks, default=0) < 1 or min(ratios, default=0) < 1:
            raise ValueError("a MedNeXt needs channels, one block a level, an expansion above 0")
        if len(ratios) != len(blocks):
            raise ValueError(f"{len(blocks)} levels and {len(ratios)} expansions: one a level")
        if kernel % 2 == 0:
            raise ValueError(f"the kernel of a MedNeXt is odd, not {kernel}")
        self.dims, self.in_channels = dims, in_channels
        self.channels = tuple(filters * 2**level for level in range(len(blocks)))
        self.strides = tuple(2**level for level in range(len(blocks)))
        self.layers = len(blocks)
        self.stem = conv(dims, in_channels, filters, 1, bias=True)
        self.levels = nn.ModuleList()
        for level, (width, count) in enumerate(zip(self.channels, blocks, strict=True)):
            found = nn.ModuleList()
            if level:  # the way down belongs to the level above, and has its expansion
                above = self.channels[level - 1]
                found.append(MedNeXtBlock(dims, above, width, ratios[level - 1], kernel, True))
            for _ in range(count):
                found.append(MedNeXtBlock(dims, width, width, ratios[level], kernel, False))
            self.levels.append(found)

    def layer_of(self, name: str) -> int:
        """The level; the stem belongs to the first."""
        return int(name.split(".")[1]) if name.startswith("levels.") else 0

    def forward(
        self, x: Tensor, visible: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """See `Encoder.forward`."""
        self.check(x, visible, mask_token)
        levels = visible_levels(visible, x.shape[2:], self.strides, x.dtype)
        x = self.stem(masked_image(x, visible))
        if levels[0] is not None:
            x = x * levels[0]  # the stem has a bias
        features = []
        for blocks, seen in zip(self.levels, levels, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, seen)
            features.append(x)
        return features
