"""Print what encoders of common sizes weigh and cost: python tools/encoder_sizes.py

Parameters without any head or decoder; multiply-adds (10^9) of one forward pass through an image of
one channel, counted by PyTorch, not timed. Nothing is computed: the tensors have no memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from medssl.networks import build_encoder

RESENC: dict[str, Any] = {"widths": [32, 64, 128, 256, 320, 320], "blocks": [1, 3, 4, 6, 6, 6]}
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {}),
    "unet, ResEnc": ("unet", RESENC),
    "resnet 18": ("resnet", {"depth": 18}),
    "resnet 18, classic": ("resnet", {"depth": 18, "stem": "classic"}),
    "resnet 34": ("resnet", {"depth": 34}),
    "resnet 50": ("resnet", {"depth": 50}),
    "resnet 50, classic": ("resnet", {"depth": 50, "stem": "classic"}),
    "mednext S": ("mednext", {}),
    "mednext B": ("mednext", {"expansion": [2, 3, 4, 4, 4]}),
    "mednext M": ("mednext", {"blocks": [3, 4, 4, 4, 4], "expansion": [2, 3, 4, 4, 4]}),
    "mednext L": ("mednext", {"blocks": [3, 4, 8, 8, 8], "expansion": [3, 4, 8, 8, 8]}),
    "vit": ("vit", {}),
    "vit S": ("vit", {"embed_dim": 384, "depth": 12, "heads": 6}),
    "vit B": ("vit", {"embed_dim": 768, "depth": 12, "heads": 12}),
    "swin": ("swin", {}),
}
IMAGES = ((28, 28), (224, 224), (96, 96, 96))


def measured(name: str, options: dict[str, Any], size: tuple[int, ...]) -> tuple[float, float]:
    """Millions of parameters, and 10^9 multiply-adds of a forward pass of one image."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        encoder = build_encoder(name, len(size), 1, **options)
        encoder(torch.zeros(1, 1, *size))
    count = sum(p.numel() for p in encoder.parameters())
    return count / 1e6, counter.get_total_flops() / 2e9


def _rounded(cost: float) -> str:
    return f"{cost:.0f}" if cost >= 100 else f"{cost:.3g}"


def table() -> list[str]:
    """The lines of a Markdown table."""
    sizes = " | ".join(" x ".join(map(str, size)) for size in IMAGES)
    lines = [
        f"| encoder | strides | deepest map at 28 px | parameters 2D | 3D | {sizes} |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for title, (name, options) in SIZES.items():
        found = [measured(name, options, size) for size in IMAGES]
        costs = " | ".join(_rounded(cost) for _, cost in found)
        strides = build_encoder(name, 2, 1, **options).strides
        side = -(-28 // strides[-1])
        lines.append(
            f"| {title} | {', '.join(map(str, strides))} | {side} x {side} "
            f"| {found[0][0]:.1f} M | {found[-1][0]:.1f} M | {costs} |"
        )
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
