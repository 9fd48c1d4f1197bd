"""Views per second, fully augmented, beside other libraries, in one run.

Crop (0.4 to 1 of the volume), mirroring, rotation (15 degrees) and scale (0.9 to 1.1) of every
view; blur, low resolution, contrast, brightness, gamma and noise each in 0.3 of them. What a
library cannot do is left out of its share of the work (benchmarks/views_peers.py says what). On a
CPU everything runs on one core and its own processor time counts: libraries that work sample by
sample are run in as many workers as there are cores, and medssl splits its batches over as many
threads. On a GPU the clock on the wall counts.

    python benchmarks/views.py
    python benchmarks/views.py --device cuda --cases "224 px,64^3"
"""

from __future__ import annotations

import math
import time
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor
from views_peers import (
    BLUR,
    BRIGHTNESS,
    CHANCE,
    COARSER,
    CONTRAST,
    CROP_SHARE,
    DEGREES,
    GAMMA,
    NOISE,
    PEERS,
    SCALE,
    Case,
    Maker,
    peer,
)

from medssl.views import (
    Draw,
    IntensitySettings,
    SpatialSettings,
    ViewPlan,
    ViewSettings,
    make_views,
    sample_key,
)

CASES = {
    "28 px": Case((28, 28), (28, 28), 2, 128),
    "224 px": Case((256, 256), (224, 224), 2, 8),
    "64^3": Case((96,) * 3, (64,) * 3, 2, 4),
    "96^3": Case((128,) * 3, (96,) * 3, 2, 2),
}


def medssl(case: Case, chance: float = CHANCE, **more: float) -> Maker:
    """medssl's views of a batch."""
    settings = ViewSettings(
        SpatialSettings(
            rotation=DEGREES,
            scale=SCALE,
            crop_scale=CROP_SHARE,
            flip_axes=tuple(range(case.dims)),
            **more,
        ),
        IntensitySettings(
            probability=chance,
            blur=BLUR,
            low_resolution=COARSER,
            contrast=CONTRAST,
            brightness=BRIGHTNESS,
            gamma=GAMMA,
            noise=NOISE,
        )
        if chance
        else IntensitySettings(),
    )
    plans, step = [ViewPlan(settings, case.size, case.count)], 0

    def made(crops: Tensor) -> list[Tensor]:
        nonlocal step
        keys = [sample_key(0, 0, step + index) for index in range(len(crops))]
        step += len(crops)
        draw = Draw(torch.tensor(keys, device=crops.device))
        return [view.image for view in make_views(crops, draw, plans)]

    return made


def seconds(make: Maker, crops: Tensor, rounds: int, once: float, threads: int) -> float:
    """Seconds for a batch: the best round, each of the same draws."""
    on_cpu = crops.device.type == "cpu"
    clock = time.process_time if on_cpu and threads == 1 else time.perf_counter
    make(crops)
    repeats, best = 1, math.inf
    for number in range(rounds + 1):
        torch.manual_seed(0)
        np.random.seed(0)
        if not on_cpu:
            torch.cuda.synchronize()
        start = clock()
        for _ in range(repeats):
            make(crops)
        if not on_cpu:
            torch.cuda.synchronize()
        spent = (clock() - start) / repeats
        if number == 0:
            repeats = max(2, math.ceil(once / spent))
        else:
            best = min(best, spent)
    return best


def main(
    cases: Annotated[str, typer.Option(help="Which, by comma.")] = ",".join(CASES),
    beside: Annotated[str, typer.Option(help="Others, by comma.")] = ",".join(PEERS),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Of torch, on a CPU.")] = 1,
    rounds: Annotated[int, typer.Option(help="Of which the best counts.")] = 3,
    once: Annotated[float, typer.Option(help="Seconds a round takes at least.")] = 0.5,
    batch: Annotated[int, typer.Option(help="Crops in a batch; 0: as the case says.")] = 0,
) -> None:
    """Print a table."""
    torch.set_num_threads(threads)
    print("| views | made by | views/s | of medssl |\n| --- | --- | --- | --- |")
    for name in cases.split(","):
        case = CASES[name.strip()]
        count = batch or case.batch
        generator = torch.Generator().manual_seed(0)
        crops = torch.rand(count, 1, *case.crop, generator=generator).to(device)
        makers: dict[str, Maker | str] = {"medssl": medssl(case)}
        makers["medssl, elastic too"] = medssl(case, elastic=3.0)
        makers["medssl, place alone"] = medssl(case, chance=0.0)
        makers |= {other: peer(other, case) for other in beside.split(",") if other}
        own = 0.0
        for who, make in makers.items():
            if isinstance(make, str):
                print(f"| {name} | {who} | {make} | |", flush=True)
                continue
            shapes = [views.shape for views in make(crops)]
            assert {tuple(shape[1:]) for shape in shapes} == {(1, *case.size)}, (who, shapes)
            assert sum(len(views) for views in make(crops)) == case.count * count, (who, shapes)
            rate = case.count * count / seconds(make, crops, rounds, once, threads)
            own = own or rate
            print(f"| {name} | {who} | {rate:.0f} | {rate / own:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
