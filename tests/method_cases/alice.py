from __future__ import annotations

from medssl.methods import Method
from method_cases import Broken, Case, mae
from method_cases.dino import FLAT, SHARP


def without_centring(method: Method) -> None:
    for loss in (method._cls_loss, method._patch_loss):
        loss.follow = lambda teacher: None


CASE = Case(
    options={
        "hidden": 16, "projection": 8, "prototypes": 32, "casa_width": 16, "casa_heads": 2,
        "tolerance": 0.2,
        **mae.CASE.options,
    },
    refused=mae.CASE.refused,
    broken={
        "no centring": Broken(change=without_centring, options=SHARP, values={"steps": 110}),
        "no sharpening": Broken(options=FLAT),
    },
)  # fmt: skip
