from __future__ import annotations

from medssl.methods import Method
from method_cases import Broken, Case


def without_centring(method: Method) -> None:
    method._loss.follow = lambda teacher: None


SHARP = {"teacher_temperature": 0.02, "teacher_temperature_start": 0.02, "momentum": 0.9}
FLAT = {"teacher_temperature": 10.0, "teacher_temperature_start": 10.0}

CASE = Case(
    options={"hidden": 16, "projection": 8, "prototypes": 32, "local_views": 2},
    broken={
        "no centring": Broken(change=without_centring, options=SHARP),
        "no sharpening": Broken(options=FLAT),
    },
)
