"""Cross-attention that reads a decoder's features as an encoder's tokens ask for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.attention import attention
from medssl.networks.vit import sincos_positions


class CrossAttention(nn.Module):
    """Conditional anatomical semantic alignment (Jiang et al. 2023, "Alice", sec. 3.3): queries are
    an encoder's tokens, keys and values a decoder's features. Asked with the same queries, the
    features of two networks give tokens that can be compared one by one.

    There is no shortcut around the attention: with one, both sides would hold the query itself,
    and agree whatever the features say.

    Args:
        queries: width of a query.
        features: width of a feature.
        width: of the result.
        heads: of the attention; divides the width.
        mlp_ratio: hidden width of the MLP over the width.
    """

    def __init__(
        self, queries: int, features: int, width: int, heads: int = 4, mlp_ratio: float = 4.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide tokens of width {width}")
        self.heads, hidden = heads, int(width * mlp_ratio)
        self.norm_queries, self.norm_features = nn.LayerNorm(queries), nn.LayerNorm(features)
        self.query, self.key_value = nn.Linear(queries, width), nn.Linear(features, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        """One token for each query.

        Args:
            queries: (B, Q, *grid).
            features: (B, V, *grid'), of the same field of view.

        Returns:
            (B, cells of grid, width).

        Raises:
            ValueError: batches or dimensions differ.
        """
        if len(queries) != len(features) or queries.ndim != features.ndim:
            raise ValueError(
                f"queries {tuple(queries.shape)} and features {tuple(features.shape)} "
                "are not of the same images"
            )
        q = self.query(self.norm_queries(queries.flatten(2).transpose(1, 2)))
        given = self.norm_features(features.flatten(2).transpose(1, 2))
        k, v = self.key_value(given).chunk(2, dim=2)
        # Where they lie, on the features' grid, so that both count alike.
        grid = tuple(features.shape[2:])
        positions = sincos_positions(grid, k.shape[2], k.device)
        field = positions.T.reshape(1, -1, *grid)
        q = q + pooled_to(field, queries.shape[2:]).to(q.dtype)
        k = k + positions.to(k.dtype)
        q, k, v = (self._split(part) for part in (q, k, v))
        read = attention(q, k, v).transpose(1, 2).flatten(2)
        tokens: Tensor = self.out(read)
        tokens = tokens + self.mlp(self.norm(tokens))
        return tokens

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, N, width) -> (B, heads, N, width / heads)."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


def pooled_to(features: Tensor, grid: Sequence[int]) -> Tensor:
    """Features (B, V, *grid') averaged over the cells of a coarser grid: (B, cells, V)."""
    if features.ndim == 4:
        return F.adaptive_avg_pool2d(features, (grid[0], grid[1])).flatten(2).transpose(1, 2)
    found = F.adaptive_avg_pool3d(features, (grid[0], grid[1], grid[2]))
    return found.flatten(2).transpose(1, 2)
