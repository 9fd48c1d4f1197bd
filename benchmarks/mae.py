"""A training step of masked autoencoding (forward, backward, AdamW) beside MONAI's
MaskedAutoEncoderViT of equal size, the step's bare matrix products, and a minimal model.

    python benchmarks/mae.py --precision fp32
    python benchmarks/mae.py --precision bf16
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from paired import ratio, take_turns
from torch import Tensor, nn

from medssl.losses import MaskedMSE
from medssl.networks import TokenReconstructor, ViT
from medssl.networks.attention import attention
from medssl.networks.patches import split_patches

Step = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """Of MONAI's defaults, unless stated."""

    side: int
    batch: int
    width: int
    depth: int
    heads: int
    mlp: int
    decoder_width: int
    decoder_depth: int
    decoder_mlp: int
    patch: int = 16

    @property
    def cells(self) -> int:
        """Patches of an image."""
        return (self.side // self.patch) ** 3

    @property
    def visible(self) -> int:
        """A quarter of them, as MONAI rounds it."""
        return int(0.25 * self.cells)

    def linears(self) -> list[tuple[int, int, int]]:
        """(rows, inputs, outputs) of every linear layer that medssl runs; the first reads voxels,
        which need no gradient."""
        seen, cells = self.batch * self.visible, self.batch * self.cells
        voxels = self.patch**3
        found = [(seen, voxels, self.width), (seen, self.width, self.decoder_width)]
        for rows, w, mlp, depth in (
            (seen, self.width, self.mlp, self.depth),
            (cells, self.decoder_width, self.decoder_mlp, self.decoder_depth),
        ):
            found += depth * [(rows, w, 3 * w), (rows, w, w), (rows, w, mlp), (rows, mlp, w)]
        return [*found, (cells - seen, self.decoder_width, voxels)]

    def flop(self) -> int:
        """Of the linear layers, forward and backward."""
        n, i, o = self.linears()[0]
        return sum(6 * n * i * o for n, i, o in self.linears()) - 2 * n * i * o


def products(sizes: Sizes, dtype: torch.dtype) -> Step:
    """Every linear layer's three products, on memory that is already there."""
    rows = {
        (n, i, o): tuple(torch.randn(*s).to(dtype) for s in ((n, i), (o, i), (n, o)))
        for n, i, o in set(sizes.linears())
    }

    def run() -> None:
        for number, shape in enumerate(sizes.linears()):
            x, weight, gradient = rows[shape]
            x @ weight.T
            gradient.T @ x
            if number:
                gradient @ weight

    return run


def square(dtype: torch.dtype, side: int = 2048) -> Step:
    """One large product: what this machine does at best."""
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    return lambda: a @ b


def training(model: nn.Module, loss: Callable[[], Tensor], bf16: bool, fused: bool = True) -> Step:
    """A step as a trainer makes it; bf16 by autocast."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4, fused=fused)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return run


class Bare(nn.Module):
    """Layers alone: tokens in, tokens out, no masking and no images."""

    def __init__(self, width: int, heads: int, mlp: int, depth: int) -> None:
        super().__init__()
        self.heads = heads
        self.layers = nn.ModuleList(
            nn.ModuleList((
                nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width),
                nn.LayerNorm(width), nn.Linear(width, mlp), nn.Linear(mlp, width),
            ))
            for _ in range(depth)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> the same."""
        for norm1, qkv, out, norm2, up, down in self.layers:
            q, k, v = qkv(norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            x = x + out(attention(q, k, v).transpose(1, 2).flatten(2))
            x = x + down(F.gelu(up(norm2(x))))
        return x


def minimal(sizes: Sizes, bf16: bool) -> Step:
    """Encoder, decoder and head on random tokens."""
    s, voxels = sizes, sizes.patch**3
    embed, bridge = nn.Linear(voxels, s.width), nn.Linear(s.width, s.decoder_width)
    encoder = Bare(s.width, s.heads, s.mlp, s.depth)
    decoder = Bare(s.decoder_width, s.heads, s.decoder_mlp, s.decoder_depth)
    head = nn.Linear(s.decoder_width, voxels)
    patches = torch.randn(s.batch, s.visible, voxels)
    hidden = torch.randn(s.batch, s.cells - s.visible, s.decoder_width)
    target = torch.randn(s.batch, s.cells - s.visible, voxels)

    def loss() -> Tensor:
        seen = bridge(encoder(embed(patches)))
        tokens = decoder(torch.cat((seen, hidden.to(seen.dtype)), dim=1))
        return F.mse_loss(head(tokens[:, s.visible :]).float(), target)

    return training(nn.ModuleList((embed, encoder, bridge, decoder, head)), loss, bf16)


def medssl(sizes: Sizes, image: Tensor, bf16: bool) -> Step:
    """The networks and the loss of medssl's `mae`, a new mask every step."""
    s = sizes
    vit = ViT(3, 1, s.patch, s.width, s.depth, s.heads, s.mlp / s.width)
    ratio = s.decoder_mlp / s.decoder_width
    model = TokenReconstructor(vit, s.decoder_width, s.decoder_depth, s.heads, ratio)
    criterion = MaskedMSE()

    def loss() -> Tensor:
        order = torch.rand(s.batch, s.cells).argsort(dim=1)
        mask = torch.zeros(s.batch, s.cells, dtype=torch.bool)
        mask.scatter_(1, order[:, s.visible :], True)
        mask = mask.reshape(s.batch, 1, *(s.side // s.patch,) * 3)
        predicted, target, _ = model.masked_patches(image, mask, s.visible)
        return criterion.of_patches(predicted, target)

    return training(model, loss, bf16)


def monai(
    sizes: Sizes,
    image: Tensor,
    *,
    weights: torch.dtype = torch.float32,
    autocast: bool = False,
    flash: bool = False,
    fused: bool = False,
    embedding: str = "conv",
) -> Step:
    """MONAI's model with the loss of its tutorial, masked patches alone counting."""
    from monai.networks.nets import MaskedAutoEncoderViT

    s = sizes
    model = MaskedAutoEncoderViT(
        1, s.side, s.patch, s.width, s.mlp, s.depth, s.heads, 0.75,
        s.decoder_width, s.decoder_mlp, s.decoder_depth, s.heads, proj_type=embedding,
    ).to(weights)  # fmt: skip
    for module in model.modules():
        if hasattr(module, "use_flash_attention"):
            module.use_flash_attention = flash
    image = image.to(weights)

    def loss() -> Tensor:
        predicted, mask = model(image)
        target = split_patches(image, (s.side // s.patch,) * 3)
        return ((predicted - target).square().mean(-1) * mask).sum() / mask.sum()

    return training(model, loss, autocast, fused)


def rivals(sizes: Sizes, image: Tensor, bf16: bool) -> dict[str, Step]:
    """MONAI's rows. It needs einops for its transformers."""
    if not bf16:
        return {
            "MONAI, defaults": monai(sizes, image),
            "MONAI, flash attention, fused AdamW": monai(sizes, image, flash=True, fused=True),
        }
    try:
        monai(sizes, image, autocast=True)()
        print("MONAI runs under autocast\n")
    except RuntimeError as error:
        print(f"MONAI under autocast: {str(error).splitlines()[0]}\n")
    half = torch.bfloat16
    # The default convolution as embedding takes longer than all the rest in bf16.
    kinds = {
        ", linear embedding": monai(sizes, image, weights=half, embedding="perceptron"),
        ", linear embedding, fused AdamW": monai(
            sizes, image, weights=half, embedding="perceptron", fused=True
        ),
    }
    return {f"MONAI, bf16 weights{name}": step for name, step in kinds.items()}


def main(
    precision: Annotated[str, typer.Option(help="fp32, or bf16 by autocast.")] = "fp32",
    side: Annotated[int, typer.Option(help="Of the images, voxels.")] = 96,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 8,
    small: Annotated[bool, typer.Option(help="ViT-S: width 384, MLP 1536, 6 heads.")] = False,
    rounds: Annotated[int, typer.Option(help="How often each is timed.")] = 5,
    threads: Annotated[int, typer.Option(help="Of PyTorch.")] = 2,
    processor: Annotated[bool, typer.Option(help="Count processor time, not wall time.")] = False,
) -> None:
    """Print ms a step, in each one's best round, and how often as fast medssl is."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    sizes = Sizes(side, batch, 768, 12, 12, 512, 384, 4, 512)
    if small:
        sizes = Sizes(side, batch, 384, 12, 6, 1536, 192, 4, 768)
    bf16 = precision == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    image = torch.randn(batch, 1, side, side, side)
    print(f"{sizes}, {precision}, {threads} threads\n")
    rows: dict[str, Step] = {
        "one product of 2048 x 2048": square(dtype),
        "matrix products alone": products(sizes, dtype),
        "a minimal model": minimal(sizes, bf16),
        "medssl": medssl(sizes, image, bf16),
    }
    try:
        rows |= rivals(sizes, image, bf16)
    except ImportError:
        print("MONAI, or einops: not installed\n")
    clock = time.process_time if processor else time.perf_counter
    seconds = take_turns(rows, rounds, clock=clock)
    print("| | ms | times medssl's |\n| --- | --- | --- |")
    for name, times in seconds.items():
        print(f"| {name} | {1000 * min(times):.0f} | {ratio(seconds, name, 'medssl'):.2f} |")
    peak = 2 * 2048**3 / min(seconds["one product of 2048 x 2048"])
    for name in ("matrix products alone", "medssl"):
        share = sizes.flop() / min(seconds[name]) / peak
        print(f"\n{name}: {100 * share:.0f} % of the measured peak, {peak / 1e9:.0f} GFLOP/s.")


if __name__ == "__main__":
    typer.run(main)
