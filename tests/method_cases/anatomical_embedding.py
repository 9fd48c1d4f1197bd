from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from medssl.methods import Method
from method_cases import Broken, Case


class NoNegatives(nn.Module):
    """Least where every place of every image is the same."""

    def forward(self, queries, keys, *_):
        """Mean squared distance of the points and their keys."""
        return (F.normalize(queries, dim=2) - F.normalize(keys, dim=2)).square().sum(2).mean()


def without_negatives(method: Method) -> None:
    method._fine = method._coarse = NoNegatives()


CASE = Case(
    options={"dim": 8, "width": 8, "positives": 12, "negatives": 24, "pool": 40, "others": 4},
    broken={"no negatives": Broken(change=without_negatives, values={"steps": 160})},
)
