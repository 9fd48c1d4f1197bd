"""The decoupled contrastive loss, weighted or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.losses.pairs import similarities, wide_pair
from medssl.processes import mean_value, sum_processes, world


class DCL(nn.Module):
    """DCL and DCLW (Yeh et al. 2022, "Decoupled contrastive learning", sec. 3).

    For an anchor i with its other view j among the 2N projections, with s = cosine similarity and
    τ the temperature: -w s(i, j) / τ + log of the sum of exp(s(i, k) / τ) over the k of other
    samples, averaged over all 2N anchors. NT-Xent has the positive in that sum too. w is 1, or with
    ``sigma`` 2 - exp(s(i, j) / sigma) / mean over the N pairs of exp(s / sigma), through which
    gradients flow.
    In several processes each one's anchors meet the candidates of all processes; value and (under
    DDP) gradient equal those of one process holding the whole batch.

    Args:
        temperature: > 0.
        sigma: > 0; None weighs all pairs by 1.
    """

    def __init__(self, temperature: float = 0.1, sigma: float | None = None) -> None:
        super().__init__()
        if temperature <= 0 or (sigma is not None and sigma <= 0):
            raise ValueError(
                f"temperature and sigma must be above 0, not {temperature} and {sigma}"
            )
        self.temperature, self.sigma = temperature, sigma

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input) of two views' projections, each (B, D).

        Raises:
            ValueError: the shapes are not the same (B, D), or there is one sample alone.
        """
        with wide_pair(z1, z2, "DCL") as pair:
            cosines, itself, partner = similarities(*pair)
            same_sample = torch.stack((itself, partner), dim=1)
            negatives = (cosines / self.temperature).scatter(1, same_sample, float("-inf"))
            positive = cosines.gather(1, partner[:, None])[:, 0]
            if self.sigma is not None:
                positive = positive * self._weights(positive[: len(z1)], self.sigma).repeat(2)
            return mean_value((negatives.logsumexp(1) - positive / self.temperature).mean())

    @staticmethod
    def _weights(cosines: Tensor, sigma: float) -> Tensor:
        """2 - N softmax over the pairs of all processes; a cosine is at most 1: no overflow."""
        near = ((cosines - 1) / sigma).exp()
        return 2 - near * (len(near) * world()[1] / sum_processes(near.sum()))
