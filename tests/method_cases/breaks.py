"""What several methods break on."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from medssl.methods import Method

LONGER = {"steps": 160}  # a collapse to one point takes 50 to 100 of them


class BothWays(nn.Module):
    """Negative cosine whose gradient flows into both."""

    def forward(self, prediction, target):
        """(B, D) each."""
        return -F.cosine_similarity(prediction, target).mean()


def without_stop_gradient(method: Method) -> None:
    method._loss = BothWays()


def learning_teacher(method: Method) -> None:
    """The student is its own teacher, and learns as one."""
    without_stop_gradient(method)
    method.taught = lambda views: method.embed(views)[1]


def without_predictor(method: Method) -> None:
    method.predictor = nn.Identity()


def silent_head(method: Method) -> None:
    """The last layer is zero and stays so: every answer is as likely as the others."""
    last = [module for module in method.head.modules() if isinstance(module, nn.Linear)][-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter.requires_grad_(False))
