"""How much memory an ingest of very many files takes, and how long opening its store does.

python benchmarks/scale.py --series 1000 --slices 100
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ingest import one_slice

_START = (
    "import resource, sys\nfrom medssl.cli import main\n"
    "try:\n    main()\n"
    "finally:\n"
    "    usage = [resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF,"
    " resource.RUSAGE_CHILDREN)]\n"
    "    print('peak', *usage)\n"
)
_OPEN = (
    "import sys, time\nfrom medssl.store import Store\nimport pandas\nstart = time.perf_counter()\n"
    "store = Store.open(sys.argv[1])\nstore[next(iter(store))].crop([0, 0, 0], [4, 4, 4])\n"
    "print(time.perf_counter() - start)\n"
)
_SIDE = 8


def make_tree(root: Path, series: int, slices: int) -> None:
    """CT series of 8 x 8 pixels, each a patient: one is written, the others are its bytes with
    another number in them."""
    rng = np.random.default_rng(0)
    for number in range(series):
        folder = root / f"{number:05d}"
        folder.mkdir(parents=True)
        data = one_slice(2 * 10**6 + number, 10**6, np.zeros((_SIDE, _SIDE), "<i2"))
        data.ImagePositionPatient, data.InstanceNumber = ["0", "0", "1000000"], "1000000"
        stream = io.BytesIO()
        data.save_as(stream, enforce_file_format=True)
        head = stream.getvalue()[: -2 * _SIDE * _SIDE]
        for k in range(slices):
            pixels = rng.integers(-1000, 1000, (_SIDE, _SIDE)).astype("<i2").tobytes()
            text = head.replace(b"1000001", b"%07d" % (k + 1)).replace(b"1000000", b"%07d" % k)
            (folder / f"{k:05d}.dcm").write_bytes(text + pixels)


def main(
    series: Annotated[int, typer.Option(help="Series in the tree.")] = 1000,
    slices: Annotated[int, typer.Option(help="Slices of each.")] = 100,
    workers: Annotated[int, typer.Option(help="Processes that read.")] = 2,
) -> None:
    """Print seconds and MB."""
    with tempfile.TemporaryDirectory() as scratch:
        root, store = Path(scratch) / "in", Path(scratch) / "store"
        make_tree(root, series, slices)
        verb = ["ingest", str(root), str(store), "--workers", str(workers)]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _START, *verb], check=True, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
        own, child = (int(word) / 1024 for word in done.stdout.split()[-2:])
        opened = subprocess.run(
            [sys.executable, "-c", _OPEN, str(store)], check=True, capture_output=True, text=True
        )
    print(f"{series * slices} files, {series} series, {workers} workers\n")
    print("| what | measured |\n| --- | --- |")
    print(f"| peak memory of the program | {own:.0f} MB |")
    print(f"| of the largest child, what it shares with the program included | {child:.0f} MB |")
    print(f"| time | {seconds:.0f} s |")
    print(f"| opening the store and reading a crop | {float(opened.stdout):.2f} s |")


if __name__ == "__main__":
    typer.run(main)
