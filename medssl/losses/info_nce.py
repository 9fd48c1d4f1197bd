"""The loss of MoCo: cross entropy of finding one's own key among the keys of all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.losses.pairs import wide_pair
from medssl.processes import gather_rows, mean_value, world


class InfoNCE(nn.Module):
    """InfoNCE (van den Oord et al. 2018, eq. 4; Chen et al. 2021, "MoCo v3", eq. 1).

    With s = cosine similarity / temperature of query i and key k:
    l(i) = -log(exp s(i, i) / sum over k of exp s(i, k)), averaged over the queries. Queries do not
    meet each other. In several processes each one's queries meet the keys of all; value and (under
    DDP) gradient equal those of one process holding the whole batch.

    Args:
        temperature: > 0.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.temperature = temperature

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input) of (B, D) each, row i belonging to row i.

        Raises:
            ValueError: the shapes are not the same (B, D), or there is one sample alone.
        """
        with wide_pair(queries, keys, "InfoNCE") as pair:
            query, key = (F.normalize(rows) for rows in pair)
            logits = query @ gather_rows(key).T / self.temperature
            own = torch.arange(len(query), device=query.device) + world()[0] * len(query)
            return mean_value(F.cross_entropy(logits, own))
