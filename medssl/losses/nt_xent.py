"""The loss of SimCLR: normalised temperature-scaled cross entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medssl.losses.pairs import similarities, wide_pair
from medssl.processes import mean_value


class NTXent(nn.Module):
    """NT-Xent (Chen et al. 2020, "A simple framework for contrastive learning", eq. 1).

    For the positive pair (i, j) among the 2B projections, with s = cosine similarity / temperature:
    l(i, j) = -log(exp s(i, j) / sum over k != i of exp s(i, k)), averaged over all 2B anchors.
    In several processes each one's anchors meet the candidates of all processes; value and (under
    DDP) gradient equal those of one process holding the whole batch.

    Args:
        temperature: > 0.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.temperature = temperature

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input) of two views' projections, each (B, D).

        Raises:
            ValueError: the shapes are not the same (B, D), or there is one sample alone.
        """
        with wide_pair(z1, z2, "NT-Xent") as pair:
            cosines, itself, partner = similarities(*pair)
            logits = (cosines / self.temperature).scatter(1, itself[:, None], float("-inf"))
            return mean_value(F.cross_entropy(logits, partner))
