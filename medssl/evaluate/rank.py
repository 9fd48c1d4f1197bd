"""Effective rank of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_me(embeddings: Tensor) -> float:
    """RankMe: exp(-Σ p_k log p_k) with p_k = σ_k / ‖σ‖₁ + 1e-7 (Garrido et al. 2023, eq. 1-2).

    σ are the singular values of the embeddings (n, d) as they are, not centred. The result lies
    between 1 and min(n, d). Compare it between runs of one method only: a high rank is necessary
    for good features, not sufficient, and methods differ in the rank they work at.

    Raises:
        ValueError: not a matrix, not finite, or all zero.
    """
    if embeddings.ndim != 2 or embeddings.numel() == 0 or not bool(embeddings.isfinite().all()):
        raise ValueError(f"expected a finite (n, d) matrix, got shape {tuple(embeddings.shape)}")
    sigma = torch.linalg.svdvals(embeddings.double())
    total = sigma.sum()
    if total == 0:
        raise ValueError("the embeddings are all zero")
    p = sigma / total + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))
