"""What a crop costs and what memory a run's data take, as the store grows.

    python benchmarks/growth.py

The stores are simulated: every row of the manifest points to one of 20 arrays. Each size is
measured in a process of its own.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from medssl.store import LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord

_ARRAYS = 20
_SIDE = 96
_CROP = 64
_KEYS = ("volume_id", "subject_id", "study_id", "series_id")


def simulate(path: Path, volumes: int) -> None:
    """A store of so many rows."""
    rng = np.random.default_rng(0)
    rows = []
    with StoreWriter(path, StoreInfo()) as writer:
        for i in range(_ARRAYS):
            name, image = f"{i:020d}", rng.integers(0, 2000, (1, _SIDE, _SIDE, _SIDE))
            kind = ("CT", "MR")[i % 2]
            writer.add_volume(VolumeRecord(name, name, name, name, kind), image, np.eye(4))
            rows.append(LedgerRow(name, Outcome.USED, volume_id=name))
        writer.finish(rows, _ARRAYS)
    file = path / "manifest.parquet"
    table = pq.read_table(file)
    table = table.take(np.arange(volumes) % _ARRAYS)
    for key in _KEYS:
        names = pa.array([f"{i:020d}" for i in range(volumes)])
        table = table.set_column(table.column_names.index(key), key, names)
    pq.write_table(table, file)


def measure(path: Path, samples: int) -> None:
    """Print, of this process: seconds to open, microseconds of processor time a sample, MB
    of both together, and seconds to look a volume up and read of it."""
    importlib.import_module("pandas")  # whose import is not counted

    from medssl.store.intensity import IntensityContract
    from medssl.training.data import CropSource

    ids = Store.open(path).columns(["volume_id"])["volume_id"].to_pylist()
    before, started = _memory(), time.perf_counter()
    source = CropSource(
        Store.open(path), ids, [_CROP] * 3, IntensityContract(), 0, balance=["modality"]
    )
    source[0]
    opened = time.perf_counter() - started
    batch = {k: np.empty((1, *shape), dtype) for k, (shape, dtype) in source.fields().items()}
    for i in range(300):
        source.write(i, batch, 0)
    best = float("inf")
    for turn in range(5):
        started = time.process_time()
        for i in range(samples):
            source.write(turn * samples + i, batch, 0)
        best = min(best, (time.process_time() - started) / samples)
    memory = _memory() - before
    started = time.perf_counter()
    store = Store.open(path)
    store[ids[-1]].crop([0, 0, 0], [4, 4, 4])
    looked_up = time.perf_counter() - started
    print(opened, 1e6 * best, memory, looked_up)


def _memory() -> float:
    """MB that are this process' own."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def main(
    volumes: Annotated[list[int] | None, typer.Argument(help="Sizes of the store.")] = None,
    samples: Annotated[int, typer.Option(help="Samples of a measurement.")] = 2000,
    measured: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print a table: a row for each size."""
    if measured is not None:
        measure(measured, samples)
        return
    sizes = volumes or [100, 1000, 10_000, 100_000]
    print("| volumes | source made | a sample | against the first | memory | `store[id].crop` |")
    print("| --- | --- | --- | --- | --- | --- |")
    first = 0.0
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "store"
            simulate(path, size)
            command = [sys.executable, __file__, "--measured", str(path), "--samples", str(samples)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        opened, each, memory, looked_up = map(float, done.stdout.split()[-4:])
        first = first or each
        print(
            f"| {size} | {opened:.2f} s | {each:.0f} us | {each / first:.2f}x | {memory:.0f} MB "
            f"| {looked_up:.2f} s |"
        )


if __name__ == "__main__":
    typer.run(main)
