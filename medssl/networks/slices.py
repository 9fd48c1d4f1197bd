"""A 3D encoder made of a 2D one: slice by slice, with attention along the slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.attention import attention
from medssl.networks.encoder import Encoder
from medssl.networks.patches import crop_to
from medssl.networks.vit import sincos_positions

# plane -> the volume's axis across it, and those that rows and columns of a picture follow, both
# backwards: as pictures of a plane are looked at, and 2D crops of volumes are taken.
_PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}


class DeformableAttention(nn.Module):
    """Attention of all places of a sequence to a few, which move to where they are wanted (Xia et
    al. 2022, "Vision transformer with deformable attention", sec. 3.2, along one axis).

    The few start evenly spread, one for every `every` places. A convolution of the queries moves
    each, for every head on its own, by up to `reach` places; keys and values are read there by
    linear interpolation.

    Args:
        width: of a token.
        heads: of the attention; divides the width.
        every: places that share one key.
        reach: how far a key may move, in places.
    """

    def __init__(self, width: int, heads: int, every: int = 4, reach: float = 2.0) -> None:
        super().__init__()
        if width % heads or every < 1:
            raise ValueError(
                f"attention along slices needs heads that divide the width {width}, not {heads}, "
                f"and a key for every 1 slice or more, not {every}"
            )
        self.heads, self.every, self.reach = heads, every, reach
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        # A kernel of 6 for every 4 places, as image-volume clustering has them.
        self.look = nn.Conv1d(width, width, every + 2, every, padding=1, groups=width)
        self.move = nn.Conv1d(width, heads, 1)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """(B, S, width) -> the same.

        Args:
            x: tokens.
            positions: what queries and keys know of their place, (S, width).
        """
        placed = x + positions.to(x.dtype)
        q, k, v = self.query(placed), self.key(placed), self.value(x)
        weights = self.read_at(self.places(q), x.shape[1])
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        weights = weights.to(k.dtype)
        mixed = attention(q, weights @ k, weights @ v)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended

    def places(self, q: Tensor) -> Tensor:
        """Where the keys are, in places of the sequence: queries (B, S, width) -> float32 (B,
        heads, ceil(S / every)), from 0 to S - 1."""
        length = q.shape[1]
        padded = F.pad(q.transpose(1, 2), (0, -length % self.every))
        moved = self.move(F.gelu(self.look(padded))).float().tanh() * self.reach
        first = torch.arange(moved.shape[2], device=q.device) * self.every + (self.every - 1) / 2
        places: Tensor = (first + moved).clamp(0, length - 1)
        return places

    @staticmethod
    def read_at(places: Tensor, length: int) -> Tensor:
        """The weights of linear interpolation: places (B, heads, K) -> (B, heads, K, length)."""
        away = places[..., None] - torch.arange(length, device=places.device)
        return (1 - away.abs()).clamp(min=0)


class PlainAttention(nn.Module):
    """Attention of all places of a sequence to all.

    Args:
        width: of a token.
        heads: of the attention; divides the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide tokens of width {width}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """(B, S, width) -> the same; see `DeformableAttention.forward`."""
        placed = x + positions.to(x.dtype)
        rows = self.query(placed), self.key(placed), self.value(x)
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in rows)
        attended: Tensor = self.out(attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


class SliceBlock(nn.Module):
    """Attention along slices and an MLP, each after a layer norm and around a shortcut.

    Args:
        attend: the attention.
        width: of a token.
        mlp_ratio: hidden width of the MLP over the width.
    """

    def __init__(self, attend: nn.Module, width: int, mlp_ratio: float = 2.0) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1, self.attend, self.norm2 = nn.LayerNorm(width), attend, nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """(B, S, width) -> the same."""
        x = x + self.attend(self.norm1(x), positions)
        x = x + self.mlp(self.norm2(x))
        return x


class SliceEncoder(Encoder):
    """A 2D encoder applied to every slice of a volume; what it gives is averaged over as many
    slices as it is coarse in the plane, so that maps are isotropic in voxels.

    With `depth`, the slices of a volume, each the mean over its deepest map, attend to each other;
    by what that changes a slice's token, all places of its map are changed. So the pooled features
    of a volume are the mean over the attended tokens of its slices.

    Args:
        dims: 3.
        in_channels: channels of the image.
        of: name of the 2D encoder.
        of_options: its options.
        plane: of the slices: axial, coronal or sagittal.
        depth: blocks of attention along the slices.
        heads: of the attention.
        attend: "deformable", to a few slices that it chooses, or "plain", to all.
        every: with "deformable", slices that share one key.
        reach: with "deformable", how far a key may move, in slices.
    """

    sparse = False

    def __init__(
        self,
        dims: int,
        in_channels: int,
        of: str = "unet",
        of_options: Mapping[str, Any] | None = None,
        plane: Literal["axial", "coronal", "sagittal"] = "axial",
        depth: int = 0,
        heads: int = 4,
        attend: Literal["deformable", "plain"] = "deformable",
        every: int = 4,
        reach: float = 2.0,
    ) -> None:
        super().__init__()
        from medssl.networks.models import build_encoder  # which knows this one too

        if dims != 3:
            raise ValueError(
                f"slices are of 3D volumes, this encoder cannot have {dims} dimensions"
            )
        if plane not in _PLANES or attend not in ("deformable", "plain"):
            raise ValueError(
                f"slices are {', '.join(_PLANES)}, and attention along them deformable or plain, "
                f"not {plane} and {attend}"
            )
        self.of = build_encoder(of, 2, in_channels, **(of_options or {}))
        self.dims, self.in_channels = dims, in_channels
        self.channels, self.strides = self.of.channels, self.of.strides
        self.local, self.layers = self.of.local, self.of.layers + depth
        self.plane = _PLANES[plane]
        width = self.channels[-1]
        self.blocks = nn.ModuleList(
            SliceBlock(
                DeformableAttention(width, heads, every, reach)
                if attend == "deformable"
                else PlainAttention(width, heads),
                width,
            )
            for _ in range(depth)
        )

    def layer_of(self, name: str) -> int:
        """The 2D encoder's layers, then block by block."""
        kind, rest = name.split(".", 1)
        return self.of.layer_of(rest) if kind == "of" else self.of.layers + int(rest.split(".")[0])

    def pictures(self, x: Tensor) -> Tensor:
        """The slices of volumes as pictures: (B, C, x, y, z) -> (B, slices, C, row, column)."""
        across, rows, columns = (2 + axis for axis in self.plane)
        return x.permute(0, across, 1, rows, columns).flip(3, 4)

    def volumes(self, pictures: Tensor) -> Tensor:
        """The inverse of `pictures`."""
        places = dict(zip(self.plane, (1, 3, 4), strict=True))
        return pictures.flip(3, 4).permute(0, 2, *(places[axis] for axis in range(3)))

    def tokens(self, maps: Tensor) -> Tensor:
        """Of the slices' deepest maps (B, S, C, h, w) the mean over space: (B, S, C)."""
        return maps.flatten(3).mean(3)

    def attended(self, tokens: Tensor) -> Tensor:
        """Tokens of slices (B, S, C) after they attended to each other."""
        positions = sincos_positions((tokens.shape[1],), tokens.shape[2], tokens.device)
        for block in self.blocks:
            tokens = block(tokens, positions)
        return tokens

    def slice_maps(self, x: Tensor) -> list[Tensor]:
        """The 2D encoder's maps of every slice, before attention: [(B, S, C, h, w)].

        Args:
            x: (B, in_channels, x, y, z); padded at the end of the plane's axes to whole cells.
        """
        self.check(x)
        after = [0, 0, 0]
        for axis in self.plane[1:]:
            after[axis] = -x.shape[2 + axis] % self.strides[-1]
        if any(after):
            x = F.pad(x, [n for size in reversed(after) for n in (0, size)], mode="replicate")
        pictures = self.pictures(x)
        maps = self.of(pictures.flatten(0, 1))
        return [one.unflatten(0, pictures.shape[:2]) for one in maps]

    def forward(
        self, x: Tensor, visible: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """See `Encoder.forward`."""
        self.check(x, visible, mask_token)
        maps = self.slice_maps(x)
        if len(self.blocks):
            tokens = self.tokens(maps[-1])
            maps[-1] = maps[-1] + (self.attended(tokens) - tokens)[..., None, None]
        found = []
        for one, stride in zip(maps, self.strides, strict=True):
            volume, size = self.volumes(one), [1, 1, 1]
            size[self.plane[0]] = min(stride, one.shape[1])
            if stride > 1:
                volume = F.avg_pool3d(volume, size, ceil_mode=True, count_include_pad=False)
            # Without what the plane was padded by.
            found.append(crop_to(volume, [-(-n // stride) for n in x.shape[2:]]))
        return found
