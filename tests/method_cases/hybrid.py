from __future__ import annotations

from medssl.methods import Method
from method_cases import Broken, Case, mae, simclr


def without_negatives(method: Method) -> None:
    simclr.without_negatives(method.joint)


CASE = Case(
    options={"masked_options": mae.CASE.options, "joint_options": simclr.CASE.options},
    refused=mae.CASE.refused,
    broken={
        "no negatives": Broken(change=without_negatives, values={"steps": 160}),
    },
)
