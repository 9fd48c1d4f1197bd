from __future__ import annotations

from method_cases import Broken, Case
from method_cases.breaks import silent_head

CASE = Case(
    options={"mask_ratio": 0.5},
    encoders=("vit",),
    refused=("unet", "resnet", "classic", "bottleneck", "mednext", "swin"),
    broken={"the head says nothing": Broken(change=silent_head)},
)
