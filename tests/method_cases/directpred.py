from __future__ import annotations

from method_cases import Broken, Case
from method_cases.breaks import LONGER, learning_teacher

CASE = Case(
    options={"hidden": 16, "projection": 8},
    broken={
        "no stop-gradient": Broken(change=learning_teacher),
        # All eigenvalues are then nearly the same: what is left of the predictor is a scale.
        "predictor that changes nothing, momentum 0": Broken(
            options={"eps": 1e3, "momentum": 0}, values=LONGER
        ),
    },
)
