from __future__ import annotations

from method_cases import Broken, Case

CASE = Case(
    options={"hidden": 16, "projection": 8, "queue": 32},
    broken={
        "the teacher is the student, its targets softer": Broken(
            options={"teacher_temperature": 0.2, "momentum": 0}, values={"steps": 160}
        ),
    },
)
