"""A linear layer whose rows are directions: what embeddings are compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prototypes(nn.Module):
    """Cosines of embeddings to K prototypes (Caron et al. 2020, "SwAV", sec. 3.1; the last layer of
    Caron et al. 2021, "DINO", app. C).

    Args:
        inputs: width D of an embedding.
        count: K.

    Attributes:
        weight: (K, D), rows of length 1 at first; what their length becomes has no influence.
        frozen: gives the prototypes a gradient of zeros. A gradient nonetheless: in several
            processes, DDP waits for it.

    Shape: (B, inputs) -> (B, count), -1 to 1, in float32 under autocast too (float64 stays).
    """

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"there is at least one prototype, not {count}")
        self.weight = nn.Parameter(F.normalize(torch.randn(count, inputs)))
        self.frozen = False

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        # In half precision cosines are too coarse for the temperatures they are divided by.
        with torch.autocast(z.device.type, enabled=False):
            wide = z if z.dtype == torch.float64 else z.float()
            weight = self.weight.detach() + 0.0 * self.weight if self.frozen else self.weight
            return F.linear(F.normalize(wide), F.normalize(weight).to(wide.dtype))

    @torch.no_grad()
    def normalise(self) -> None:
        """Make all rows of length 1 again; otherwise they grow, and learn the slower for it."""
        self.weight.copy_(F.normalize(self.weight))
