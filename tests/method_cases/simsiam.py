from __future__ import annotations

from method_cases import Broken, Case
from method_cases.breaks import LONGER, without_predictor, without_stop_gradient

CASE = Case(
    options={"hidden": 16, "projection": 8, "predictor_hidden": 4},
    broken={
        "no stop-gradient": Broken(change=without_stop_gradient, values=LONGER),
        "no predictor": Broken(change=without_predictor, values=LONGER),
    },
)
