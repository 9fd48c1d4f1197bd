from __future__ import annotations

from method_cases import Case

# As of any masked method, only its weights can be ruined, by lr x 1000.
CASE = Case(
    options={"decoder_dim": 24, "decoder_depth": 1},
    encoders=("vit",),
    refused=("unet", "resnet", "classic", "bottleneck", "mednext", "swin"),
)
