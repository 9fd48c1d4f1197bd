"""The loss of SimCLR: normalised temperature-scaled cross entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.losses.gather import gather_rows, mean_value, world


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
            ValueError: the shapes are not the same (B, D), or one pair alone has no negatives.
        """
        if z1.ndim != 2 or z1.shape != z2.shape:
            raise ValueError(
                "NT-Xent compares two views of shape (B, D), "
                f"not {tuple(z1.shape)} and {tuple(z2.shape)}"
            )
        rank, size = world()
        rows = len(z1)
        if rows * size < 2:
            raise ValueError(
                "NT-Xent needs at least two samples in the batch: one has no negatives"
            )
        with torch.autocast(z1.device.type, enabled=False):
            z1, z2 = (F.normalize(z if z.dtype == torch.float64 else z.float()) for z in (z1, z2))
            candidates = torch.cat((gather_rows(z1), gather_rows(z2)))
            logits = torch.cat((z1, z2)) @ candidates.T / self.temperature
            local = torch.arange(rows, device=z1.device) + rank * rows
            first, second = local, local + rows * size
            itself, partner = torch.cat((first, second)), torch.cat((second, first))
            logits = logits.scatter(1, itself[:, None], float("-inf"))
            return mean_value(F.cross_entropy(logits, partner))
