from __future__ import annotations

from method_cases import Broken, Case
from method_cases.simclr import without_negatives

CASE = Case(
    options={"hidden": 16, "projection": 8, "local_projection": 8},
    patch=8,  # whole volumes are all of one partition
    broken={
        "no negatives": Broken(change=without_negatives, values={"steps": 160}),
    },
)
