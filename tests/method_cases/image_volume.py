from __future__ import annotations

from method_cases import Broken, Case
from method_cases.swav import without_equipartition

CASE = Case(
    options={
        "hidden": 16, "projection": 8, "prototypes": 12, "queue": 16, "queue_from": 0.2,
        "freeze": 0.25,
    },
    broken={
        "no equipartition": Broken(change=without_equipartition),
        "no preference": Broken(options={"epsilon": 1e4}),
    },
)  # fmt: skip
