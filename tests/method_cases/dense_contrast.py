from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from medssl.methods import Method
from method_cases import Broken, Case
from method_cases.breaks import LONGER


class NoNegatives(nn.Module):
    """Least where everything is the same."""

    def forward(self, queries, keys, valid, *_):
        """Mean squared distance of the positives on the sphere."""
        apart = (F.normalize(queries, dim=2) - F.normalize(keys, dim=2)).square().sum(2)
        return ((apart * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()

    def trivial(self, *_):
        """Not known."""
        return torch.tensor(torch.nan)


def without_negatives(method: Method) -> None:
    method._loss = NoNegatives()


def learning_teacher(method: Method) -> None:
    without_negatives(method)
    method.taught = method.embed_cells


CASE = Case(
    options={"hidden": 16, "projection": 8, "queue": 32},
    broken={
        "no negatives, momentum 0": Broken(
            change=without_negatives, options={"momentum": 0}, values=LONGER
        ),
        "no negatives, no stop-gradient": Broken(change=learning_teacher, values=LONGER),
        "nothing is told apart": Broken(options={"temperature": 1e4}),
        "cells are not told apart": Broken(options={"temperature": 1e4, "dense": 1.0}),
    },
)
