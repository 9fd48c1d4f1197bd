from __future__ import annotations

from torch import nn

from medssl.methods import Method
from method_cases import Broken, Case


class NoNegatives(nn.Module):
    """Least where everything is the same."""

    def forward(self, first, second, *_):
        """Mean squared distance of the positives on the sphere."""
        return (nn.functional.normalize(first) - nn.functional.normalize(second)).square().mean()


def without_negatives(method: Method) -> None:
    method._loss = NoNegatives()


CASE = Case(
    options={"hidden": 16, "projection": 8},
    broken={
        "no negatives": Broken(change=without_negatives, values={"steps": 160}),
        "nothing is told apart": Broken(options={"temperature": 1e4}),
    },
)
