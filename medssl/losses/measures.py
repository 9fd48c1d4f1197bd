"""What embeddings look like, in numbers to watch, not to train on.

Each returns a scalar float32 on the device of its input, without gradient and without waiting for
the device, but for :func:`effective_rank`, whose eigenvalues CUDA waits for.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_RANK_EPSILON = 1e-7
_UNIFORMITY_T = 2.0


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    """RankMe: exp(-Σ p_k log p_k) with p_k = σ_k / ‖σ‖₁ + 1e-7 (Garrido et al. 2023, eq. 1-2).

    σ are the singular values of the embeddings (n, d) as they are, not centred, here as the square
    roots of the eigenvalues of the smaller Gram matrix in float64. Between 1 and min(n, d); rows of
    zeros change nothing; NaN where a value is not finite.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        x = embeddings.double()
        gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
        # The solver raises where it is given a NaN, in a run that should stop with a message.
        finite = gram.isfinite().all()
        sigma = torch.linalg.eigvalsh(gram.where(finite, 0.0)).clamp(min=0).sqrt()
        p = sigma / sigma.sum().clamp(min=torch.finfo(torch.float64).tiny) + _RANK_EPSILON
        return torch.exp(-(p * p.log()).sum()).where(finite, torch.nan).float()


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    """Standard deviation of every dimension of the normalised embeddings (B, D), B at least 2: its
    mean times √D. 0: all the same; 1: spread evenly over the sphere (Chen and He 2021, sec. 4.1).
    """
    unit = F.normalize(embeddings.float(), dim=1)
    mean: Tensor = unit.std(dim=0).mean()
    return mean * math.sqrt(unit.shape[1])


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of normalised positives, each (B, D), between 0 (the same) and 4
    (Wang and Isola 2020, eq. 1 with α = 2).
    """
    difference = F.normalize(first.float(), dim=1) - F.normalize(second.float(), dim=1)
    return difference.square().sum(dim=1).mean()


@torch.no_grad()
def uniformity(embeddings: Tensor) -> Tensor:
    """log of the mean of exp(-2 d²) over the pairs of normalised embeddings (B, D), B at least 2.

    0: all at one point; the lower, the more evenly spread, down to about -4 (Wang and Isola 2020,
    eq. 2 with t = 2).
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = F.normalize(embeddings.float(), dim=1)
        squared = (2.0 - 2.0 * unit @ unit.T).clamp(min=0)
        count = len(unit)
        # The diagonal holds no pairs: its B ones leave the sum, and the mean.
        total = torch.exp(-_UNIFORMITY_T * squared.fill_diagonal_(0.0)).sum() - count
        return torch.log(total / (count * (count - 1)))


@torch.no_grad()
def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of the rows of (B, K), in nats: 0 where each is sure, ln K where none is."""
    nats: Tensor = torch.special.entr(probabilities.float()).sum(dim=1)
    return nats.mean()


@torch.no_grad()
def divergence_from_uniform(probabilities: Tensor) -> Tensor:
    """KL divergence of the mean row of (B, K) from the uniform distribution, in nats.

    0 where all K are used alike, ln K where all samples share one.
    """
    mean = probabilities.float().mean(dim=0)
    nats: Tensor = torch.special.entr(mean).sum()
    return math.log(len(mean)) - nats
