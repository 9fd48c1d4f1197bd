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
    plans = [ViewPlan(settings, case.size, case.count)]

    def made(crops: Tensor) -> list[Tensor]:
        keys = torch.randint(2**62, (len(crops),)).to(crops.device)
        return [view.image for view in make_views(crops, Draw(keys), plans)]

    return made


def seconds(make: Maker, crops: Tensor, repeats: int, threads: int) -> float:
    """Seconds for a batch, of so many; every round draws the same."""
    on_cpu = crops.device.type == "cpu"
    clock = time.process_time if on_cpu and threads == 1 else time.perf_counter
    torch.manual_seed(0)
    np.random.seed(0)
    if not on_cpu:
        torch.cuda.synchronize()
    start = clock()
    for _ in range(repeats):
        make(crops)
    if not on_cpu:
        torch.cuda.synchronize()
    return (clock() - start) / repeats


def compare(
    makers: dict[str, Maker], crops: Tensor, rounds: int, once: float, threads: int
) -> dict[str, float]:
    """Seconds for a batch of each: the best of rounds in which all take turns."""
    repeats = {}
    for who, make in makers.items():
        make(crops)
        repeats[who] = max(1, math.ceil(once / seconds(make, crops, 1, threads)))
    best = dict.fromkeys(makers, math.inf)
    for _ in range(rounds):
        for who, make in makers.items():
            best[who] = min(best[who], seconds(make, crops, repeats[who], threads))
    return best


def main(
    cases: Annotated[str, typer.Option(help="Which, by comma.")] = ",".join(CASES),
    beside: Annotated[str, typer.Option(help="Others, by comma.")] = ",".join(PEERS),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Of torch, on a CPU.")] = 1,
    rounds: Annotated[int, typer.Option(help="In turns; the best counts.")] = 5,
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
        able = {who: make for who, make in makers.items() if not isinstance(make, str)}
        for who, make in able.items():
            shapes = [tuple(views.shape) for views in make(crops)]
            assert {shape[1:] for shape in shapes} == {(1, *case.size)}, (who, shapes)
            assert sum(shape[0] for shape in shapes) == case.count * count, (who, shapes)
        spent = compare(able, crops, rounds, once, threads)
        for who, make in makers.items():
            if isinstance(make, str):
                print(f"| {name} | {who} | {make} | |", flush=True)
                continue
            rate, share = case.count * count / spent[who], spent["medssl"] / spent[who]
            print(f"| {name} | {who} | {rate:.0f} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
