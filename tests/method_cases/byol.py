from __future__ import annotations

from method_cases import Broken, Case
from method_cases.breaks import LONGER, learning_teacher, without_predictor

# With a predictor a teacher of momentum 0 is SimSiam's, which does not collapse.
CASE = Case(
    options={"hidden": 16, "projection": 8, "predictor_hidden": 16},
    broken={
        "no stop-gradient": Broken(change=learning_teacher, values=LONGER),
        "no predictor, momentum 0": Broken(
            change=without_predictor, options={"momentum": 0}, values=LONGER
        ),
        "no predictor, momentum 0.5": Broken(
            change=without_predictor, options={"momentum": 0.5}, values=LONGER
        ),
    },
)
