"""The Swin Transformer, in 2D and 3D from one definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.conv import visible_at
from medssl.networks.encoder import Encoder
from medssl.networks.patches import crop_to, join_patches, pad_to_multiple, split_patches


@lru_cache(maxsize=64)
def window_regions(
    grid: tuple[int, ...], window: int, shift: tuple[int, ...], device: torch.device
) -> Tensor | None:
    """Which cells of a window may attend to each other: those of one region.

    A grid is padded to whole windows and rolled by `shift`; what comes round from the other side,
    and what is padding, are regions of their own (Liu et al. 2021, sec. 3.2 and fig. 4).

    Returns:
        int64 (windows, cells of a window), or None where every window is one region.
    """
    padded = [n + -n % window for n in grid]
    if list(grid) == padded and not any(shift):
        return None
    with torch.inference_mode(False), torch.no_grad():
        regions = torch.zeros(1, 1, *padded, dtype=torch.int64, device=device)
        inside = torch.ones_like(regions, dtype=torch.bool)
        for axis, (size, whole, step) in enumerate(zip(grid, padded, shift, strict=True)):
            shape = [-1 if axis == other else 1 for other in range(len(grid))]
            cells = torch.arange(whole, device=device).roll(-step).reshape(1, 1, *shape)
            regions = regions + (cells < step) * 2**axis
            inside = inside & (cells < size)
        regions = regions.where(inside, -1)
        return split_patches(regions, [whole // window for whole in padded])[0]


class SwinBlock(nn.Module):
    """MONAI's Swin block: attention within windows, and an MLP, each around a shortcut.

    The windows are cut here and not by MONAI, which gives a map smaller than a window the position
    biases of other places, and attends to padding.

    Args:
        dims: 2 or 3.
        width: of a token.
        heads: of the attention; divides the width.
        window: side of a window in cells.
        shift: how far the windows are shifted, in cells.
    """

    def __init__(self, dims: int, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        # Here, because MONAI takes seconds to import.
        from monai.networks.nets.swin_unetr import SwinTransformerBlock

        self.block = SwinTransformerBlock(width, heads, (window,) * dims, (shift,) * dims)
        # It follows from the window, and is no weight.
        attn = self.block.attn
        attn.register_buffer(
            "relative_position_index", attn.relative_position_index, persistent=False
        )
        self.window, self.shift = window, shift

    def forward(self, x: Tensor) -> Tensor:
        """(B, *grid, width) -> the same."""
        attended = self._attend(self.block.norm1(x).movedim(-1, 1)).movedim(1, -1)
        x = x + attended
        y: Tensor = x + self.block.forward_part2(x)
        return y

    def _attend(self, x: Tensor) -> Tensor:
        """Attention within windows: (B, width, *grid) -> the same."""
        batch, width, *grid = x.shape
        axes = list(range(2, x.ndim))
        # One window along an axis has nothing to be shifted against.
        shift = tuple(self.shift if n > self.window else 0 for n in grid)
        regions = window_regions(tuple(grid), self.window, shift, x.device)
        mask = None
        if regions is not None:
            apart = regions[:, None] != regions[:, :, None]
            mask = torch.zeros_like(apart, dtype=x.dtype).masked_fill(apart, -math.inf)
        x = pad_to_multiple(x, self.window)
        if any(shift):
            x = x.roll([-n for n in shift], axes)
        padded = x.shape[2:]
        windows = [n // self.window for n in padded]
        tokens = split_patches(x, windows).reshape(batch * math.prod(windows), width, -1)
        tokens = self.block.attn(tokens.transpose(1, 2), mask).transpose(1, 2)
        x = join_patches(tokens.reshape(batch, math.prod(windows), -1), windows, padded)
        if any(shift):
            x = x.roll(shift, axes)
        return crop_to(x, grid)


class SwinStage(nn.Module):
    """Blocks on one grid, every other one with shifted windows; `merge` halves the grid before."""

    def __init__(
        self, dims: int, width: int, depth: int, heads: int, window: int, merge: bool
    ) -> None:
        super().__init__()
        from monai.networks.nets.swin_unetr import PatchMergingV2

        self.merge = PatchMergingV2(width // 2, spatial_dims=dims) if merge else nn.Identity()
        self.blocks = nn.ModuleList(
            SwinBlock(dims, width, heads, window, window // 2 if number % 2 else 0)
            for number in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, *grid, channels) -> (B, *grid, width); `merge` halves the grid and rounds up."""
        x = self.merge(x)
        for block in self.blocks:
            x = block(x)
        return x


class Swin(Encoder):
    """Swin Transformer (Liu et al. 2021), of MONAI's blocks.

    The defaults are those of Swin UNETR (Hatamizadeh et al. 2022). Every map is normalised over
    its channels, without weights, as there. It cannot leave masked patches out, since windows and
    mergings need whole grids; it takes a mask token instead.

    Args:
        dims: 2 or 3.
        in_channels: channels of the image.
        patch_size: side of a patch in voxels: the stride of the first map.
        embed_dim: width of a token in the first stage; it doubles from stage to stage.
        depths: blocks of each stage.
        heads: of the attention in each stage; they divide its width.
        window: side of the attention's windows, in cells of the stage's grid.
    """

    local = False
    sparse = False

    def __init__(
        self,
        dims: int,
        in_channels: int,
        patch_size: int = 2,
        embed_dim: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
    ) -> None:
        super().__init__()
        if not depths or min(depths) < 1 or len(heads) != len(depths):
            raise ValueError("a Swin needs stages of at least one block, and heads for each stage")
        if patch_size < 1 or window < 2:
            raise ValueError(
                "a Swin needs patches of at least 1 voxel, windows of at least 2 cells"
            )
        self.dims, self.in_channels = dims, in_channels
        self.channels = tuple(embed_dim * 2**stage for stage in range(len(depths)))
        self.strides = tuple(patch_size * 2**stage for stage in range(len(depths)))
        for width, count in zip(self.channels, heads, strict=True):
            if count < 1 or width % count:
                raise ValueError(f"{count} heads do not divide tokens of width {width}")
        self.token_width = embed_dim
        self.depths = tuple(depths)
        self.layers = 1 + sum(depths)
        from monai.networks.blocks.patchembedding import PatchEmbed

        self.embed = PatchEmbed(patch_size, in_channels, embed_dim, spatial_dims=dims)
        self.stages = nn.ModuleList(
            SwinStage(dims, width, depth, count, window, merge=stage > 0)
            for stage, (width, depth, count) in enumerate(
                zip(self.channels, depths, heads, strict=True)
            )
        )

    def layer_of(self, name: str) -> int:
        """0 for the embedding, then block by block; a merging belongs to the block after it."""
        parts = name.split(".")
        if parts[0] != "stages":
            return 0
        block = int(parts[3]) if parts[2] == "blocks" else 0
        return 1 + sum(self.depths[: int(parts[1])]) + block

    def forward(
        self, x: Tensor, visible: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """See `Encoder.forward`."""
        self.check(x, visible, mask_token)
        x = self.embed(pad_to_multiple(x, self.strides[0])).movedim(1, -1)
        if visible is not None and mask_token is not None:
            seen = visible_at(visible, x.shape[1:-1], torch.uint8).bool().movedim(1, -1)
            x = x.where(seen, mask_token.to(x.dtype))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(F.layer_norm(x, x.shape[-1:]).movedim(-1, 1))
        return features
