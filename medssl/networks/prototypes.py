"""Learned directions that features are compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prototypes(nn.Module):
    """Cosine similarity to K learned directions: a linear layer without bias whose inputs and rows
    are normalised, as the last layer of Caron et al. 2021 ("DINO", sec. 3.1).

    Args:
        inputs: D, width of the features.
        prototypes: K.

    Attributes:
        frozen: gives the prototypes a gradient of zeros. A gradient nonetheless: in several
            processes, DDP waits for it.

    Shape: (B, D) -> float32 (B, K), -1 to 1.
    """

    def __init__(self, inputs: int, prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(prototypes, inputs)))
        self.frozen = False

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        # In half precision cosines are too coarse for the temperatures they are divided by.
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weight.detach() + 0.0 * self.weight if self.frozen else self.weight
            return F.linear(F.normalize(x.float()), F.normalize(weight.float()))
