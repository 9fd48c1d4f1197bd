from __future__ import annotations

from types import MethodType

import torch

from medssl.methods import Method
from method_cases import Broken, Case


def one_cluster(method: Method) -> None:
    """Every volume is said to be of the first cluster."""
    method._clusters = MethodType(lambda self, known, scores: torch.zeros_like(known), method)


CASE = Case(
    options={"hidden": 16, "projection": 8, "prototypes": [6, 10], "every": 2},
    broken={
        "one cluster": Broken(change=one_cluster),
        "nothing is told apart": Broken(options={"temperature": 1e4}),
    },
)
