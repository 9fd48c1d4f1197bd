"""The ascending half of a U-Net, for any encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.conv import ConvBlock, MaskedNorm, channels_last, conv
from medssl.networks.encoder import Encoder
from medssl.networks.patches import crop_to


def _ladder(strides: Sequence[int]) -> list[int]:
    """Strides from the encoder's coarsest down to 1, halving where the encoder has no level."""
    steps = [strides[-1]]
    while steps[-1] > 1:
        finer = [s for s in strides if s < steps[-1]]
        if finer:
            steps.append(finer[-1])
        else:
            steps.append(steps[-1] // 2 if steps[-1] % 2 == 0 else 1)
    return steps


class UpStage(nn.Module):
    """Upsamples by a transposed convolution, adds the skip and refines by one convolution.

    One, as in the ResEnc presets of Isensee et al. 2024. The skip is added, not concatenated
    (Chaurasia and Culurciello 2017, "LinkNet"): at full resolution that halves the most expensive
    convolution of the network.
    """

    def __init__(self, dims: int, inputs: int, skip: int | None, outputs: int, factor: int) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
        self.up = kind(inputs, outputs, factor, stride=factor)
        plain = skip is None or skip == outputs
        self.lateral = nn.Identity() if plain else conv(dims, skip or 0, outputs, 1)
        self.conv = conv(dims, outputs, outputs, 3)
        self.norm = MaskedNorm(outputs)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(B, inputs, *coarse) and the skip (B, skip, *fine) or None -> (B, outputs, *fine)."""
        y = self.up(x)
        if skip is not None:
            y = crop_to(y, skip.shape[2:]) + self.lateral(skip)
        return F.leaky_relu(self.norm(self.conv(y)), 0.01)


class Ascent(nn.Module):
    """From an encoder's feature maps up to finer ones: a decoder without its head.

    Where the encoder's finest map is coarser than the image, further stages lead up to stride 1 and
    the image itself is the last skip.

    Args:
        dims: 2 or 3.
        in_channels: channels of the image.
        channels: of the encoder's feature maps.
        strides: of the encoder's feature maps, ascending.
        width: channels at full resolution where the encoder has no map; grows with the stride.
        context: residual blocks on the coarsest map, which carry context further than the stages'
            single convolutions can.
        count: of stages; None: all up to stride 1.

    Attributes:
        stage_strides: voxels of the image per voxel of each stage's result, descending.
        widths: channels of each of :meth:`maps`.
        channels: of the last of them.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int],
        width: int = 16,
        context: int = 0,
        count: int | None = None,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        deepest = channels[-1]
        self.context = nn.Sequential(*(ConvBlock(dims, deepest, deepest) for _ in range(context)))
        ladder = _ladder(self.strides)[: None if count is None else count + 1]
        self.stage_strides = tuple(ladder[1:])
        widths = dict(zip(self.strides, channels, strict=True))
        self.image_skip = self.strides[0] > 1 and ladder[-1] == 1
        if self.image_skip:
            self.stem = ConvBlock(dims, in_channels, width)
        self.stages = nn.ModuleList()
        inputs = widths[ladder[0]]
        made = [inputs]
        for above, stride in pairwise(ladder):
            skip = widths.get(stride, width if stride == 1 else None)
            outputs = widths.get(stride, min(inputs, width * stride))
            self.stages.append(UpStage(dims, inputs, skip, outputs, above // stride))
            inputs = outputs
            made.append(outputs)
        self.widths, self.channels = tuple(made), inputs

    def maps(self, features: Sequence[Tensor], image: Tensor) -> Iterator[Tensor]:
        """What the stages make, each when it is asked for: the coarsest map with its context, then
        what every stage gives, (B, C, *ceil(spatial / stride)).

        Args: as of :meth:`forward`.
        """
        skips = dict(zip(self.strides, features, strict=True))
        x: Tensor = self.context(channels_last(features[-1]))
        yield x
        for stride, stage in zip(self.stage_strides, self.stages, strict=True):
            if stride == 1 and self.image_skip:
                skips[1] = self.stem(channels_last(image))
            x = stage(x, skips.get(stride))
            yield x

    def forward(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """(B, channels, *ceil(spatial / the last stage's stride)).

        Args:
            features: the encoder's maps, finest first; sizes ceil(spatial / stride).
            image: (B, in_channels, *spatial); only its size is used where the finest stride is 1.
        """
        *_, finest = self.maps(features, image)
        return finest


class Decoder(Ascent):
    """From an encoder's feature maps to a map on the image's own grid.

    Args:
        dims, in_channels, channels, strides, width, context: as of :class:`Ascent`.
        out_channels: channels of the result.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int],
        out_channels: int,
        width: int = 16,
        context: int = 0,
    ) -> None:
        super().__init__(dims, in_channels, channels, strides, width, context)
        self.head = conv(dims, self.channels, out_channels, 1, bias=True)

    def forward(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """(B, out_channels, *spatial), of what :meth:`Ascent.forward` takes."""
        return self.finish(super().forward(features, image), image)

    def finish(self, finest: Tensor, image: Tensor) -> Tensor:
        """The last of :meth:`maps` -> (B, out_channels, *spatial)."""
        logits: Tensor = self.head(finest)
        return crop_to(logits, image.shape[2:])


def decoder_for(encoder: Encoder, out_channels: int) -> Decoder:
    """The decoder that segmentation and masked modelling share, so that its weights transfer.

    A local encoder's gets two context blocks: a masked cell, or a structure that only its
    surroundings tell from another, is wider than the stages alone can see across.
    """
    return Decoder(
        encoder.dims,
        encoder.in_channels,
        encoder.channels,
        encoder.strides,
        out_channels,
        context=_context(encoder),
    )


def first_stages_of_decoder(encoder: Encoder, count: int) -> Ascent:
    """The first stages of :func:`decoder_for`, under the names that they have there.

    Args:
        encoder: whose.
        count: how many, fewer where the decoder has fewer.

    Raises:
        ValueError: it has none, as the encoder's only map is as fine as the image.
    """
    if count < 1 or encoder.strides[-1] == 1:
        raise ValueError(
            f"the decoder of an encoder with strides {encoder.strides} has no {count} stage(s)"
        )
    return Ascent(
        encoder.dims,
        encoder.in_channels,
        encoder.channels,
        encoder.strides,
        context=_context(encoder),
        count=count,
    )


def _context(encoder: Encoder) -> int:
    return 2 if encoder.local else 0
