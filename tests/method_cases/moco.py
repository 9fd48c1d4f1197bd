from __future__ import annotations

from method_cases import Broken, Case
from method_cases.breaks import learning_teacher

CASE = Case(
    options={"hidden": 16, "projection": 8, "predictor_hidden": 16},
    broken={
        "no negatives, no stop-gradient": Broken(change=learning_teacher, values={"steps": 260}),
        "nothing is told apart": Broken(options={"temperature": 1e4}),
    },
)
