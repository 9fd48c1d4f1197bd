"""The ResNet, in 2D and 3D from one definition."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.conv import MaskedNorm, conv, masked_image, visible_levels
from medssl.networks.encoder import Encoder

# Blocks a stage (He et al. 2016, tab. 1); 10 is the smallest one of Chen et al. 2019, "Med3D".
_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class ResNetBlock(nn.Module):
    """MONAI's residual block with group norms, which also works on partly masked images.

    Args:
        dims: 2 or 3.
        inputs: channels in.
        width: channels of its convolutions.
        stride: of its 3x3 convolution, the first one.
        bottleneck: 1x1, 3x3 and 1x1 convolutions, the last to 4 x width channels, not two 3x3.
    """

    def __init__(self, dims: int, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        # Here, because MONAI takes seconds to import.
        from monai.networks.nets import resnet

        kind = resnet.ResNetBottleneck if bottleneck else resnet.ResNetBlock
        self.outputs = width * kind.expansion
        shortcut = None
        if stride > 1 or inputs != self.outputs:
            shortcut = nn.Sequential(
                conv(dims, inputs, self.outputs, 1, stride), MaskedNorm(self.outputs)
            )
        self.block = kind(inputs, width, dims, stride, shortcut)
        self.steps = 3 if bottleneck else 2
        for step in range(1, self.steps + 1):
            channels = self.outputs if step == self.steps else width
            setattr(self.block, f"bn{step}", MaskedNorm(channels))

    def forward(self, x: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        """(B, inputs, *spatial) -> (B, outputs, *ceil(spatial / stride)).

        Args:
            x: the input; zero wherever masked.
            before: 1 = visible, of x's type, (B, 1, *spatial); None: nothing is masked.
            after: the same on the grid of the output.
        """
        if before is None or after is None:
            dense: Tensor = self.block(x)
            return dense
        y = x
        for step in range(1, self.steps + 1):
            y = getattr(self.block, f"conv{step}")(y)
            seen = before if y.shape[2:] == before.shape[2:] else after
            y = getattr(self.block, f"bn{step}")(y, seen)
            if step < self.steps:
                y = F.relu(y) * seen
        if self.block.downsample is not None:
            convolve, norm = self.block.downsample
            x = norm(convolve(x), after)
        return F.relu(y + x) * after


class ResNet(Encoder):
    """ResNet (He et al. 2016), of MONAI's blocks, with group norm.

    `stem: small` is one 3x3 convolution on the image's own grid; `classic` a 7x7 one of stride 2
    and a pooling, after which the first blocks see a quarter of the resolution: at 28 px that is
    7 x 7, and nothing small is left. Crops of volumes have 28 to 128 voxels a side, so small is the
    default; classic is for pictures of some 200 px and more, where it costs a sixteenth.

    Args:
        dims: 2 or 3.
        in_channels: channels of the image.
        depth: 10, 18, 34 or 50; 50 has bottlenecks, and maps of 4 times the channels.
        width: channels of the first stage's convolutions; they double from stage to stage.
        stem: small (strides 1, 2, 4, 8) or classic (strides 2, 4, 8, 16, 32, the stem's own map
            among them).
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        depth: int = 18,
        width: int = 64,
        stem: Literal["small", "classic"] = "small",
    ) -> None:
        super().__init__()
        if depth not in _BLOCKS:
            raise ValueError(f"a ResNet has a depth of {sorted(_BLOCKS)}, not {depth}")
        if stem not in ("small", "classic"):
            raise ValueError(f"a ResNet's stem is small or classic, not {stem!r}")
        if width < 1:
            raise ValueError("a ResNet needs at least one channel")
        self.dims, self.in_channels = dims, in_channels
        self.classic = stem == "classic"
        kernel, stride = (7, 2) if self.classic else (3, 1)
        self.stem = nn.Sequential(
            conv(dims, in_channels, width, kernel, stride), MaskedNorm(width), nn.ReLU()
        )
        self.stages = nn.ModuleList()
        channels, inputs = [], width
        for stage, count in enumerate(_BLOCKS[depth]):
            blocks = nn.ModuleList()
            for number in range(count):
                step = 2 if stage and number == 0 else 1
                block = ResNetBlock(dims, inputs, width * 2**stage, step, depth >= 50)
                blocks.append(block)
                inputs = block.outputs
            self.stages.append(blocks)
            channels.append(inputs)
        self.channels = (width, *channels) if self.classic else tuple(channels)
        self.strides = (2, 4, 8, 16, 32) if self.classic else (1, 2, 4, 8)
        self.layers = 1 + len(self.stages)

    def layer_of(self, name: str) -> int:
        """0 for the stem, then stage by stage."""
        return int(name.split(".")[1]) + 1 if name.startswith("stages.") else 0

    def forward(
        self, x: Tensor, visible: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """See `Encoder.forward`."""
        self.check(x, visible, mask_token)
        levels = visible_levels(visible, x.shape[2:], self.strides, x.dtype)
        x = self._read(masked_image(x, visible), levels[0])
        features = []
        if self.classic:
            features.append(x)
            x = self._pool(x, levels[1])
            levels = levels[1:]
        before = levels[0]
        for blocks, after in zip(self.stages, levels, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, before, after)
                before = after
            features.append(x)
        return features

    def _read(self, x: Tensor, seen: Tensor | None) -> Tensor:
        convolve, norm, act = self.stem
        y: Tensor = act(norm(convolve(x), seen))
        return y if seen is None else y * seen

    def _pool(self, x: Tensor, seen: Tensor | None) -> Tensor:
        # What is masked is 0, the least that a ReLU gives, so it never wins.
        pool = F.max_pool2d if self.dims == 2 else F.max_pool3d
        y = pool(x, 3, 2, 1)
        return y if seen is None else y * seen
