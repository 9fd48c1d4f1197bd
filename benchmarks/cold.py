"""Crops from a cold disk and from memory: raw memory maps beside compressed chunks, in one run.

    python benchmarks/cold.py SCRATCH [--size 64]

Uses the volumes of benchmarks/crops.py, made in SCRATCH at first use, with a quarter of the noise
in their air, so that there is a foreground. Before each cold pass the system is asked to drop the
files' pages, which takes no rights; the disk may have a cache of its own. Needs blosc2.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from crops import VOLUMES, prepare

from medssl.store import LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.intensity import IntensityContract
from medssl.training import crops
from medssl.training.cache import CacheSettings
from medssl.training.data import CropSource
from medssl.training.read_ahead import ReadAhead, _waits

WARM_PASSES = 4
AIR = 60  # what is darker is mostly air
UNASKED = "the same, read ahead by the system alone"


def with_quiet_air(noisy: Store, path: Path) -> Store:
    """The same volumes in less noisy air, made at first use."""
    if not path.exists():
        rows = []
        with StoreWriter(path, StoreInfo()) as writer:
            for name in noisy:
                image = np.asarray(noisy[name].array())
                image = np.where(image < AIR, image // 4, image).astype(np.int16)
                writer.add_volume(VolumeRecord(*[name] * 4, "MR"), image, np.eye(4))
                rows.append(LedgerRow(name, Outcome.USED, volume_id=name))
            writer.finish(rows, VOLUMES)
    return Store.open(path)


def source(store: Store, size: int, cache: CacheSettings | None) -> CropSource:
    """Crops whose files are not open yet."""
    gc.collect()  # a file that is still mapped keeps its pages
    return CropSource(store, list(store), [size] * 3, IntensityContract(), 0, cache=cache)


def forget(files: list[Path]) -> None:
    """Ask the system to drop the files from its memory."""
    for file in files:
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def from_disk() -> int:
    """Bytes that this process has read from disks."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def passes(
    store: Store, size: int, cache: CacheSettings | None, files: list[Path], turn: int
) -> tuple[float, float, float]:
    """(cold crops a second, bytes that each read from the disk, warm crops a second) of one crop of
    every volume, others in every turn."""
    samples = source(store, size, cache)
    numbers = range(turn * VOLUMES, (turn + 1) * VOLUMES)
    forget(files)
    before, started = from_disk(), time.perf_counter()
    for number in numbers:
        samples[number]
    cold, read = time.perf_counter() - started, from_disk() - before
    started = time.perf_counter()
    for _ in range(WARM_PASSES):
        for number in numbers:
            samples[number]
    warm = time.perf_counter() - started
    return VOLUMES / cold, read / VOLUMES, WARM_PASSES * VOLUMES / warm


def main(
    scratch: Annotated[Path, typer.Argument(help="Where volumes and caches go.")],
    size: Annotated[int, typer.Option(help="Voxels of a crop's side.")] = 96,
    rounds: Annotated[int, typer.Option(help="The median of so many.")] = 9,
) -> None:
    """Print crops per second, cold and warm, and what was read."""
    torch.set_num_threads(1)
    store = with_quiet_air(prepare(scratch), scratch / "quiet")
    places: dict[str, tuple[Path, CacheSettings | None]] = {
        "the store, raw": (store.path, None),
        UNASKED: (store.path, None),
    }
    for name, layout in (("raw", "raw"), ("compressed", "compressed")):
        folder = scratch / f"cold-{layout}-{size}"
        settings = CacheSettings(folder, "raw" if layout == "raw" else "compressed")
        places[f"its foreground, {name}"] = (folder, settings)
        made = source(store, size, settings)
        for number in range(VOLUMES):
            made[number]
        del made
    os.sync()
    files = {
        name: [f for kind in ("*.npy", "*.b2nd") for f in folder.rglob(kind)]
        for name, (folder, _) in places.items()
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in places}
    for turn in range(rounds):
        for name, (_, settings) in places.items():
            crops._AHEAD = ReadAhead((lambda: 0) if name == UNASKED else _waits)
            found[name].append(passes(store, size, settings, files[name], turn))
    middle = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    cold_raw, _, warm_raw = middle["the store, raw"]
    print(f"crops of {size}^3 from {VOLUMES} volumes, median of {rounds}\n")
    print("| crops of | cold, crops/s | ratio | read a crop | warm, crops/s | ratio | on disk |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (cold, read, warm) in middle.items():
        disk = sum(file.stat().st_size for file in files[name])
        print(
            f"| {name} | {cold:.0f} | {cold / cold_raw:.2f}x | {read / 1e6:.1f} MB | {warm:.0f} | "
            f"{warm / warm_raw:.2f}x | {disk / 1e6:.0f} MB |"
        )


if __name__ == "__main__":
    typer.run(main)
