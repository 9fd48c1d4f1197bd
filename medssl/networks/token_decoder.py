"""The light transformer that puts tokens back where an encoder saw none."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.networks.vit import TransformerBlock, sincos_positions


class TokenDecoder(nn.Module):
    """The light decoder of a masked autoencoder (He et al. 2022, sec. 3): sees the encoder's
    visible tokens and a mask token in every other place, at fixed positions of any grid.

    Attention does not know the order of tokens, their positions do. So the decoder takes the
    visible tokens first and the masked ones after them: nothing is put back into its place but
    where a whole image is asked for.

    Args:
        inputs: width of the encoder's tokens.
        width: of its own tokens.
        depth: its number of blocks.
        heads: of its attention.
        mlp_ratio: hidden width of its MLPs over `width`.
    """

    def __init__(
        self, inputs: int, width: int = 96, depth: int = 2, heads: int = 3, mlp_ratio: float = 4.0
    ) -> None:
        super().__init__()
        self._make(inputs, width, depth, heads, mlp_ratio)

    def _make(self, inputs: int, width: int, depth: int, heads: int, mlp_ratio: float) -> None:
        self.bridge = nn.Linear(inputs, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def decode(self, visible: Tensor, grid: tuple[int, ...], order: Tensor) -> Tensor:
        """Tokens (B, cells, width) of all cells, in `order`.

        Args:
            visible: the encoder's tokens (B, K, inputs).
            grid: cells along each axis.
            order: int64 (B, cells), the numbers of the cells, the K visible ones first.
        """
        tokens = self.begin(visible, grid, order)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def begin(self, visible: Tensor, grid: tuple[int, ...], order: Tensor) -> Tensor:
        """What it begins with: the encoder's tokens, mask tokens after them, all with their
        positions, (B, cells, width). Args as of :meth:`decode`."""
        encoded = self.bridge(visible)
        batch, count, width = encoded.shape
        fill = self.mask_token.to(encoded.dtype).expand(batch, order.shape[1] - count, width)
        tokens = torch.cat((encoded, fill), dim=1)
        return tokens + sincos_positions(grid, width, order.device)[order]


def visible_first(mask: Tensor) -> Tensor:
    """The numbers of the cells of a mask (B, 1, *grid), True = masked: int64 (B, cells), visible
    ones first, each kind in row-major order."""
    # A stable sort of False before True keeps the order of the grid among either.
    return mask.flatten(1).to(torch.uint8).argsort(dim=1, stable=True)
