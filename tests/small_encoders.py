"""Every kind of encoder, as small as it goes: name -> (name in ENCODERS, options)."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {"widths": [8, 16, 16], "blocks": [1, 2, 1]}),
    "resnet": ("resnet", {"depth": 10, "width": 8}),
    "classic": ("resnet", {"depth": 10, "width": 8, "stem": "classic"}),
    "bottleneck": ("resnet", {"depth": 50, "width": 2}),
    "mednext": ("mednext", {"filters": 8, "blocks": [1, 2, 1], "expansion": [2, 3, 2]}),
    "vit": ("vit", {"patch_size": 4, "embed_dim": 24, "depth": 2, "heads": 2}),
    "swin": (
        "swin",
        {"patch_size": 2, "embed_dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 4},
    ),
}

# In 3D alone.
SLICES: tuple[str, dict[str, Any]] = (
    "slices",
    {"of": "unet", "of_options": {"widths": [8, 16, 16]}, "depth": 1, "heads": 2},
)
