from __future__ import annotations

from torch import nn

from medssl.methods import Method
from method_cases import Broken, Case
from method_cases.simclr import without_negatives


def without_predictor(method: Method) -> None:
    """As BYOL shows, a predictor alone can hold off the collapse."""
    without_negatives(method)
    method.predictor = nn.Identity()


CASE = Case(
    options={"hidden": 16, "projection": 8, "predictor_hidden": 16, "queue": 32},
    broken={
        "neither negatives nor predictor": Broken(change=without_predictor, values={"steps": 160}),
        "nothing is told apart": Broken(options={"temperature": 1e4}),
    },
)
