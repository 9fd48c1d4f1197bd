"""The Vision Transformer, in 2D and 3D from one definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.attention import attention
from medssl.networks.conv import visible_at
from medssl.networks.encoder import Encoder
from medssl.networks.patches import pad_to_multiple, split_patches, take_patches


@lru_cache(maxsize=64)
def sincos_positions(grid: tuple[int, ...], width: int, device: torch.device) -> Tensor:
    """Fixed sine and cosine position embeddings of every cell of a grid: float32 (cells, width).

    Each axis takes an equal share of the width, filled as in Vaswani et al. 2017, sec. 3.5; what
    does not divide stays zero. The position is the cell's number along the axis, so any grid works.
    """
    with torch.inference_mode(False), torch.no_grad():
        half = width // (2 * len(grid))
        steps = torch.arange(half, dtype=torch.float64) / max(half, 1)
        frequencies = torch.exp(-math.log(10000.0) * steps)
        axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
        parts = []
        for axis in axes:
            angles = axis.reshape(-1, 1) * frequencies
            parts += [angles.sin(), angles.cos()]
        table = torch.cat(parts, dim=1)
        return F.pad(table, (0, width - table.shape[1])).to(device, torch.float32)


class TransformerBlock(nn.Module):
    """Attention and MLP, each after a layer norm and around a shortcut (Dosovitskiy et al. 2021).

    Args:
        width: of a token.
        heads: of the attention; divides the width.
        mlp_ratio: hidden width of the MLP over the width.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide tokens of width {width}")
        self.heads = heads
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self, x: Tensor, attend: Tensor | None = None, context: int | None = None
    ) -> Tensor:
        """(B, N, width) -> the same.

        Args:
            x: tokens.
            attend: bool (B, 1, 1, N), True = may be attended to; None for all.
            context: only so many tokens, the first ones, are attended to; None for all.
        """
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = attention(q, k[:, :, :context], v[:, :, :context], attend)
        x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))
        x = x + self.mlp(self.norm2(x))
        return x


class ViT(Encoder):
    """Vision Transformer (Dosovitskiy et al. 2021), pre-norm, fixed positions, no class token.

    Its one feature map has one voxel a patch.

    Args:
        dims: 2 or 3.
        in_channels: channels of the image.
        patch_size: side of a patch in voxels.
        embed_dim: width of a token.
        depth: number of blocks.
        heads: of the attention.
        mlp_ratio: hidden width of the MLPs over embed_dim.
    """

    local = False

    def __init__(
        self,
        dims: int,
        in_channels: int,
        patch_size: int = 8,
        embed_dim: int = 192,
        depth: int = 6,
        heads: int = 6,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.dims, self.in_channels = dims, in_channels
        self.patch_size = patch_size
        self.layers, self.token_width = depth + 1, embed_dim
        self.channels, self.strides = (embed_dim,), (patch_size,)
        self.embed = nn.Linear(in_channels * patch_size**dims, embed_dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dim, heads, mlp_ratio) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim)

    def sibling(self, dims: int, in_channels: int, patch_size: int) -> ViT:
        """A ViT of other images with the same blocks and last norm, not copies of them; only its
        embedding is its own, and alone in its parameters and state."""
        made = ViT(dims, in_channels, patch_size, self.channels[0], depth=0, heads=1)
        made.layers = self.layers
        for name in ("blocks", "norm"):
            del made._modules[name]
            made.__dict__[name] = getattr(self, name)
        return made

    def layer_of(self, name: str) -> int:
        """0 for the embedding, then block by block; the last norm belongs to the last block."""
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return 0 if name.startswith("embed.") else self.layers - 1

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Patches along each axis of an image of this size."""
        return tuple(-(-n // self.patch_size) for n in size)

    def encode_tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Encodes only the kept patches, as masked autoencoders do (He et al. 2022, sec. 3).

        Args:
            x: (B, in_channels, *spatial); sizes the patch does not divide are padded at the end.
            keep: int64 (B, K), numbers of the patches in row-major order; None keeps all.

        Returns:
            (B, K, embed_dim), in the order of `keep`.
        """
        patches, positions = self.patches(x)
        if keep is not None:
            patches, positions = take_patches(patches, keep), positions[keep]
        return self.encode_patches(patches, positions)

    def patches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All patches of images (B, in_channels, *spatial), and where they are.

        Returns:
            (B, cells, in_channels x voxels of a patch), in row-major order of the grid, and float32
            (cells, embed_dim).
        """
        self.check(x)
        x = pad_to_multiple(x, self.patch_size)
        grid = self.grid(x.shape[2:])
        positions = sincos_positions(grid, self.embed.out_features, x.device)
        return split_patches(x, grid), positions

    def encode_patches(
        self, patches: Tensor, positions: Tensor, attend: Tensor | None = None
    ) -> Tensor:
        """Tokens (B, K, embed_dim) of K patches of every image.

        Args:
            patches: (B, K, in_channels x voxels of a patch).
            positions: of these patches, broadcastable to (B, K, embed_dim).
            attend: bool (B, 1, 1, K), True = may be attended to; None for all.
        """
        return self.encode_embedded(self.embed(patches) + positions, attend)

    def encode_embedded(
        self, tokens: Tensor, attend: Tensor | None = None, context: int | None = None
    ) -> Tensor:
        """The transformer itself: tokens with their positions, (B, K, embed_dim) -> the same.

        `attend` and `context`: what may be attended to, as in :class:`TransformerBlock`.
        """
        for block in self.blocks:
            tokens = block(tokens, attend, context)
        encoded: Tensor = self.norm(tokens)
        return encoded

    def forward(
        self, x: Tensor, visible: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """See `Encoder.forward`."""
        self.check(x, visible, mask_token)
        grid = self.grid(x.shape[2:])
        patches, positions = self.patches(x)
        if visible is None:
            tokens = self.encode_patches(patches, positions)
        else:
            seen = visible_at(visible, grid, torch.uint8).bool().flatten(2)  # (B, 1, cells)
            if mask_token is None:
                tokens = self.encode_patches(patches, positions, seen[:, None])
                tokens = tokens * seen.transpose(1, 2)
            else:
                embedded = self.embed(patches).where(seen.transpose(1, 2), mask_token)
                tokens = self.encode_embedded(embedded + positions)
        return [tokens.transpose(1, 2).reshape(len(x), -1, *grid)]
