"""What a reconstructor makes of images on its way to the reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """What a reconstructor makes of images on its way, with gradients.

    Attributes:
        pooled: (B, C), the mean of the encoder's deepest map over what is visible.
        queries: (B, Q, *grid), what the decoder begins with: the encoder's deepest map, or tokens,
            and the mask token where nothing is visible.
        decoded: (B, V, *grid'), the decoder's first features: the ViT's tokens in their places, of
            the U-Net the map after its first stage.
        image: the reconstruction, (B, channels, *spatial / cell); None where nothing is masked.
    """

    pooled: Tensor
    queries: Tensor
    decoded: Tensor
    image: Tensor | None


def after_first(maps: Iterator[Tensor]) -> Tensor:
    """The map after a decoder's first stage; that before it, where it has none."""
    before = next(maps)
    return next(maps, before)


def in_place(tokens: Tensor, order: Tensor) -> Tensor:
    """Tokens (B, cells, D) of the cells of ``order``, as cells in row-major order of the grid."""
    return torch.empty_like(tokens).scatter(1, order[..., None].expand_as(tokens), tokens)


def as_map(tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
    """(B, cells, D) -> (B, D, *grid)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
