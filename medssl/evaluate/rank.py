"""Effective rank of embeddings."""

from __future__ import annotations

from torch import Tensor

from medssl.losses.measures import effective_rank


def rank_me(embeddings: Tensor) -> float:
    """RankMe of embeddings (n, d), as they are, not centred: :func:`effective_rank`.

    The result lies between 1 and min(n, d). Compare it between runs of one method only: a high rank
    is necessary for good features, not sufficient, and methods differ in the rank they work at.

    Raises:
        ValueError: not a matrix, not finite, or all zero.
    """
    if embeddings.ndim != 2 or embeddings.numel() == 0 or not bool(embeddings.isfinite().all()):
        raise ValueError(f"expected a finite (n, d) matrix, got shape {tuple(embeddings.shape)}")
    if not bool(embeddings.any()):
        raise ValueError("the embeddings are all zero")
    return float(effective_rank(embeddings))
