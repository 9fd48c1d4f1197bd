"""A linear layer whose rows are directions: what embeddings are assigned to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prototypes(nn.Module):
    """Cosines of embeddings to K prototypes (Caron et al. 2020, "SwAV", sec. 3.1).

    Args:
        inputs: width D of an embedding.
        count: K.

    Attributes:
        weight: (K, D), rows of length 1 at first; what their length becomes has no influence.

    Shape: (B, inputs) -> (B, count), in float32 under autocast too (float64 stays).
    """

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"there is at least one prototype, not {count}")
        self.weight = nn.Parameter(F.normalize(torch.randn(count, inputs)))

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """See the class; with ``frozen`` the prototypes' gradient is zero, and not missing: DDP
        waits for one."""
        with torch.autocast(z.device.type, enabled=False):
            wide = z if z.dtype == torch.float64 else z.float()
            weight = F.normalize(self.weight).to(wide.dtype)
            if frozen:
                weight = weight.detach() + 0.0 * weight
            return F.normalize(wide) @ weight.T

    @torch.no_grad()
    def normalise(self) -> None:
        """Make all rows of length 1 again; otherwise they grow, and learn the slower for it."""
        self.weight.copy_(F.normalize(self.weight))
