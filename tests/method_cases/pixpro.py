from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from medssl.methods import Method
from method_cases import Broken, Case
from method_cases.breaks import LONGER


class BothWays(nn.Module):
    """The loss with a gradient into both views."""

    def forward(self, prediction, target, pairs):
        """(B, P, D), (B, Q, D) and (B, P, Q)."""
        cosines = F.normalize(prediction, dim=2) @ F.normalize(target, dim=2).transpose(1, 2)
        return -(cosines * pairs).sum((1, 2)).div(pairs.sum((1, 2)).clamp(min=1)).mean()


def learning_teacher(method: Method) -> None:
    """The student is its own teacher, and learns as one."""
    method._loss = BothWays()
    method.taught = method.embed_cells


def without_propagation(method: Method) -> None:
    """As BYOL's predictor, it holds off the collapse alone."""
    method.propagation = nn.Identity()


CASE = Case(
    options={"hidden": 16, "projection": 8, "predictor_hidden": 16},
    broken={
        "no stop-gradient": Broken(change=learning_teacher, values=LONGER),
        "no propagation, momentum 0": Broken(
            change=without_propagation, options={"momentum": 0}, values=LONGER
        ),
        "no propagation, momentum 0.5": Broken(
            change=without_propagation, options={"momentum": 0.5}, values=LONGER
        ),
    },
)
