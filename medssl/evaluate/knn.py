"""Weighted nearest-neighbour classification of frozen features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def knn_scores(
    train: Tensor,
    labels: Tensor,
    queries: Tensor,
    classes: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
    chunk: int = 4096,
) -> Tensor:
    """Class scores of each query from its k nearest training features by cosine.

    Each neighbour votes for its label with weight exp(cosine / temperature) (Wu et al. 2018,
    arXiv:1805.01978, section 3.4). Votes are normalised to sum to 1.

    Args:
        train: (n, d) features; labels: (n,) integers in [0, classes); queries: (q, d) features.
        k: neighbours, at most n are used. chunk: queries compared at once.

    Returns:
        (q, classes) float32 scores.

    Raises:
        ValueError: no training features, or shapes that do not fit.
    """
    if train.ndim != 2 or len(train) == 0 or len(labels) != len(train):
        raise ValueError("train must be a non-empty (n, d) matrix with n labels")
    if queries.ndim != 2 or queries.shape[1] != train.shape[1]:
        raise ValueError(f"queries must be (q, {train.shape[1]})")
    k = min(k, len(train))
    bank = F.normalize(train.float(), dim=1)
    votes = F.one_hot(labels.long(), classes).float()
    scores = []
    for part in torch.split(F.normalize(queries.float(), dim=1), chunk):
        similarity, index = (part @ bank.T).topk(k, dim=1)
        # softmax is the same weighting, normalised, and cannot overflow
        weight = (similarity / temperature).softmax(dim=1)
        scores.append((weight[..., None] * votes[index]).sum(dim=1))
    return torch.cat(scores) if scores else queries.new_zeros((0, classes))
