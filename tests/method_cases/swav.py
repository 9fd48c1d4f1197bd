from __future__ import annotations

from medssl.methods import Method
from method_cases import Broken, Case


def without_equipartition(method: Method) -> None:
    """Plain softmax as assignments: one prototype may take all."""
    method._loss.iterations = 0


CASE = Case(
    options={
        "hidden": 16, "projection": 8, "prototypes": 12, "local_views": 1, "queue": 16,
        "queue_from": 0.2, "freeze": 0.25,
    },
    broken={
        "no equipartition": Broken(change=without_equipartition),
        "no preference": Broken(options={"epsilon": 1e4}),
    },
)  # fmt: skip
