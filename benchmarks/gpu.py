"""All that a GPU is asked to do, checked against the CPU and timed, in one call.

    python benchmarks/gpu.py SCRATCH
    python benchmarks/gpu.py SCRATCH --device cpu --small      # the script itself, anywhere

It prints: what differs from the CPU; the machine's peak in bf16; a step of masked autoencoding by a
ViT-B on 96^3 as a share of it, and its memory a sample; views beside one bare resampling and one
pass for each change of intensity; a whole pretraining with every change of intensity: how long the
device waited for data, and samples a second; short runs that should end alike: stopped and resumed,
by DDP and FSDP on one device, in fp16; and the batch that fits. SCRATCH keeps the store (about
700 MB), made at first use.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from crops import prepare
from mae import Sizes
from safetensors.torch import load_file

from medssl.losses import BarlowTwins, MaskedMSE, NTXent, VICReg
from medssl.networks import TokenReconstructor, ViT
from medssl.training.batch_size import largest_batch
from medssl.training.data import loader
from medssl.training.prepare import prepare as prepare_run
from medssl.training.pretrain import PretrainConfig, pretrain, resolve
from medssl.views import (
    Draw,
    IntensitySettings,
    SpatialSettings,
    ViewPlan,
    ViewSettings,
    make_views,
    sample_key,
)

SETTINGS = ViewSettings(
    SpatialSettings(rotation=15.0, scale=(0.9, 1.1), crop_scale=(0.4, 1.0), flip_axes=(0, 1, 2)),
    IntensitySettings(
        probability=0.3,
        blur=(0.5, 1.0),
        low_resolution=(1.0, 2.0),
        contrast=(0.75, 1.25),
        brightness=0.2,
        gamma=(0.7, 1.5),
        noise=0.1,
    ),
)
PASSES = 6  # changes of intensity in SETTINGS


def keys(count: int, device: torch.device) -> torch.Tensor:
    """One a sample."""
    return torch.tensor([sample_key(0, 0, n) for n in range(count)], device=device)


def seconds(work: Callable[[], object], device: torch.device, budget: float) -> float:
    """Seconds that ``work`` takes: the mean of as many times as fill the budget, after two."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(2):
        work()
    wait()
    count, started = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - started < budget:
        work()
        count += 1
        if count % 8 == 0:
            wait()  # else the host would run ahead without end
    wait()
    return (time.perf_counter() - started) / count


def check(device: torch.device, side: int) -> None:
    """Print how far the device's results are from the CPU's."""
    print("| on the same input | largest difference from the CPU |\n| --- | --- |")
    cpu = torch.device("cpu")
    crops = torch.rand(4, 1, side, side, side, generator=torch.Generator().manual_seed(0))
    plans = [ViewPlan(SETTINGS, (side // 2,) * 3, 2)]
    found = [
        [view.image.cpu() for view in make_views(crops.to(d), Draw(keys(4, d)), plans)]
        for d in (cpu, device)
    ]
    worst = max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))
    same = torch.equal(Draw(keys(4, cpu)).bits(64), Draw(keys(4, device)).bits(64).cpu())
    print(f"| random bits | {0 if same else 'DIFFERENT'} |\n| views | {worst:.1e} |")
    pair = torch.randn(2, 64, 256, generator=torch.Generator().manual_seed(1))
    for loss in (NTXent(0.2), BarlowTwins(), VICReg()):
        values = []
        for d in (cpu, device):
            z = pair.to(d).requires_grad_()
            loss(z[0], z[1]).backward()
            assert z.grad is not None
            values.append(z.grad.cpu())
        off = float((values[0] - values[1]).abs().max() / values[0].abs().max())
        print(f"| gradient of {type(loss).__name__}, of its largest | {off:.1e} |")
    print()


def peak(device: torch.device, side: int, budget: float) -> float:
    """Flop/s of one large product in bf16, printed."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 2 * side**3 / seconds(lambda: a @ b, device, budget)
    print(f"bf16 product of {side} x {side}: {best / 1e12:.2f} TFLOP/s\n")
    return best


def masked_autoencoding(device: torch.device, sizes: Sizes, best: float, budget: float) -> None:
    """Print a step's time, its share of the peak, and its memory."""
    vit = ViT(3, 1, sizes.patch, sizes.width, sizes.depth, sizes.heads, sizes.mlp / sizes.width)
    ratio = sizes.decoder_mlp / sizes.decoder_width
    model = TokenReconstructor(
        vit, sizes.decoder_width, sizes.decoder_depth, sizes.heads, ratio
    ).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    image = torch.randn(sizes.batch, 1, *(sizes.side,) * 3, device=device)
    order = torch.rand(sizes.batch, sizes.cells, device=device).argsort(dim=1)
    mask = torch.zeros(sizes.batch, sizes.cells, dtype=torch.bool, device=device)
    mask = mask.scatter(1, order[:, sizes.visible :], True)
    mask = mask.reshape(sizes.batch, 1, *(sizes.side // sizes.patch,) * 3)
    criterion = MaskedMSE()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            predicted, target, _ = model.masked_patches(image, mask, sizes.visible)
            loss = criterion.of_patches(predicted, target)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    spent = seconds(step, device, budget)
    print("| ViT, masked autoencoding, bf16 | |\n| --- | --- |")
    print(f"| ms a step of {sizes.batch} | {1000 * spent:.1f} |")
    print(f"| of the measured peak | {100 * sizes.flop() / spent / best:.0f} % |")
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated(device) / sizes.batch
        print(f"| MB a sample, weights included | {used / 1e6:.0f} |")
    print()


def views(device: torch.device, side: int, batch: int, budget: float) -> None:
    """Print the cost of views over that of a bare resampling and one pass for each change."""
    crops = torch.rand(batch, 1, *(side,) * 3, device=device)
    size = (side * 2 // 3,) * 3
    plans, draw = [ViewPlan(SETTINGS, size, 2)], Draw(keys(batch, device))
    ours = seconds(lambda: make_views(crops, draw, plans), device, budget)
    theta = torch.eye(3, 4, device=device).repeat(batch, 1, 1)

    def bare() -> None:
        for _ in range(2):
            grid = F.affine_grid(theta, [batch, 1, *size], align_corners=False)
            image = F.grid_sample(crops, grid, align_corners=False)
            for _ in range(PASSES):
                image = image * 1.01

    floor = seconds(bare, device, budget)
    print(
        f"views, two of {size[0]}^3 from {side}^3: {2 * batch / ours:.0f} a second, "
        f"{floor / ours:.2f} of the speed of bare resampling and {PASSES} passes\n"
    )


def configured(device: torch.device, small: bool, **values: Any) -> PretrainConfig:
    """Masked autoencoding by a ViT with every change of intensity for MR."""
    shape = {"embed_dim": 768, "depth": 12, "heads": 12, "patch_size": 16}
    if small:
        shape = {"embed_dim": 48, "depth": 2, "heads": 2, "patch_size": 16}
    given: dict[str, Any] = {
        "method": "mae",
        "options": {"view": {"modality": "MR", "rotation": 15.0, "scale": (0.9, 1.1)}},
        "encoder": "vit",
        "encoder_options": shape,
        "patch_size": [48 if small else 96] * 3,
        "precision": "bf16",
        "device": device.type,
        "hold_out": [],
        "preview_every": 10**6,
    }
    return PretrainConfig(**given | values)


def whole_run(scratch: Path, device: torch.device, small: bool, workers: int) -> None:
    """Print how busy a whole pretraining keeps the device."""
    store, out = prepare(scratch), scratch / "run"
    shutil.rmtree(out, ignore_errors=True)
    config = configured(
        device,
        small,
        steps=8 if small else 200,
        batch_size=4 if small else 64,
        workers=workers,
        log_every=4 if small else 20,
    )
    found = pretrain(store.path, out, config).history.speed[1:]
    waiting = sum(row["data_fraction"] for row in found) / len(found)
    rate = sum(row["samples_per_second"] for row in found) / len(found)
    print("| pretraining, every change of intensity for MR, bf16 | |\n| --- | --- |")
    print(f"| workers | {workers} |\n| samples a second | {rate:.1f} |")
    print(f"| of the time computing | {100 * (1 - waiting):.1f} % |\n")


def alike(scratch: Path, device: torch.device) -> None:
    """Print how far short runs end from the same run in one go, in fp32."""
    store, steps = prepare(scratch), 8

    def run(name: str, resume: bool = False, **values: Any) -> dict[str, torch.Tensor]:
        out = scratch / "alike" / name
        given = {
            "precision": "fp32",
            "batch_size": 4,
            "log_every": 1,
            "checkpoint_every": steps // 2,
        }
        config = configured(device, True, steps=steps, **given | values)
        result = pretrain(store.path, out, config, resume=resume)
        losses = torch.tensor([row["loss"] for row in result.history.rows])
        return {"": losses, **load_file(result.bundle / "model.safetensors")}

    shutil.rmtree(scratch / "alike", ignore_errors=True)
    whole = run("whole")
    shutil.copytree(scratch / "alike" / "whole", scratch / "alike" / "resumed")
    shutil.rmtree(scratch / "alike" / "resumed" / "checkpoints" / f"step-{steps:08d}")
    found = {"again": run("again"), "stopped and resumed": run("resumed", resume=True)}
    for strategy in ("ddp", "fsdp"):
        found[f"{strategy} on one device"] = run(strategy, strategy=strategy)
    found["bf16"] = run("bf16", precision="bf16")
    if device.type == "cuda":
        found["fp16, losses scaled"] = run("fp16", precision="fp16")
    print(f"| {steps} steps in fp32, against the same in one go | losses | weights |")
    print("| --- | --- | --- |")
    for name, other in found.items():
        off = {key: float((other[key] - value).abs().max()) for key, value in whole.items()}
        losses = off.pop("")
        print(f"| {name} | {losses:.1e} | {max(off.values()):.1e} |")
    print()


def fitting(scratch: Path, device: torch.device, small: bool) -> None:
    """Print the batch that `batch_size=auto` finds, of volumes without end."""
    store = prepare(scratch)
    config, volume_ids = resolve(store, configured(device, small, batch_size=2, cache="off"))
    prepared = prepare_run(store, config, volume_ids, scratch / "auto")
    sample = next(iter(loader(prepared.source, 2, 0, 1, 0)))
    started = time.perf_counter()
    count = largest_batch(prepared.task, sample, config, 64 if small else 10**6)
    spent = time.perf_counter() - started
    print(f"batch_size=auto finds {count} samples of {config.patch_size} in {spent:.0f} s")


def main(
    scratch: Annotated[Path, typer.Argument(help="A folder to keep things in.")],
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    small: Annotated[bool, typer.Option("--small", help="Small sizes, to try the script.")] = False,
    workers: Annotated[int, typer.Option(help="That read crops.")] = 16,
    budget: Annotated[float, typer.Option(help="Seconds for each timing.")] = 3.0,
) -> None:
    """Check and time everything once."""
    if device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device: nothing to measure.")
        raise typer.Exit(2)
    place = torch.device(device)
    name = torch.cuda.get_device_name(place) if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}\n")
    check(place, 16 if small else 96)
    best = peak(place, 512 if small else 8192, budget)
    sizes = Sizes(96, 64, 768, 12, 12, 3072, 384, 4, 1536)
    if small:
        sizes = Sizes(32, 2, 48, 2, 2, 96, 24, 1, 48)
    masked_autoencoding(place, sizes, best, budget)
    views(place, 24 if small else 96, 2 if small else 16, budget)
    whole_run(scratch, place, small, workers)
    alike(scratch, place)
    fitting(scratch, place, small)


if __name__ == "__main__":
    typer.run(main)
