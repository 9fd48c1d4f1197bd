from __future__ import annotations

from method_cases import Broken, Case
from method_cases.simclr import without_negatives

# Without the redundancy term alone, no collapse to a point: standardisation keeps the variance.
CASE = Case(
    options={"hidden": 16, "projection": 16},
    broken={
        "neither variance nor redundancy": Broken(change=without_negatives, values={"steps": 160})
    },
)
