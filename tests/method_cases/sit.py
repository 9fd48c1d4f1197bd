from __future__ import annotations

from medssl.methods import Method
from method_cases import Broken, Case
from method_cases.simclr import NoNegatives


def without_negatives(method: Method) -> None:
    method._contrast = NoNegatives()


CASE = Case(
    options={"hidden": 16, "projection": 8, "momentum": 0.9},
    broken={
        "no negatives": Broken(change=without_negatives, values={"steps": 160}),
        "nothing is told apart": Broken(options={"temperature": 1e4, "reconstruction": 0.0}),
    },
)
