"""The loss of SimSiam and BYOL: negative cosine similarity to a target that stands still."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medssl.losses.pairs import wide_pair
from medssl.processes import mean_value


class NegativeCosine(nn.Module):
    """-cos(p, z), averaged over samples, where no gradient flows into z (Chen and He 2021,
    "Exploring simple siamese representation learning", eq. 1 and 3).

    Grill et al. 2020 ("BYOL", eq. 2) write 2 - 2 cos(p, z), which is 2 more than twice this.
    In several processes value and (under DDP) gradient equal those of one holding the whole batch.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input), -1 to 1, of (B, D) each.

        Raises:
            ValueError: the shapes are not the same (B, D), or there is one sample alone.
        """
        with wide_pair(prediction, target.detach(), "the negative cosine") as (p, z):
            return mean_value(-F.cosine_similarity(p, z).mean())
