"""The benchmarks of losses, metrics and masked autoencoding run, and their tables are whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def rows_of(script: str, *options: str) -> list[list[str]]:
    command = [sys.executable, str(FOLDER / script), *options, "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


@pytest.mark.slow
def test_losses():
    rows = rows_of("losses.py", "--samples", "64", "--dimensions", "128", "--few", "8")
    ratios = {(row[0], row[1]): float(row[2]) for row in rows if row[-1].count(".") == 1 if row[2:]}
    assert ("Barlow Twins: medssl", "two views: products, B x B") in ratios
    assert ("VICReg: medssl", "two views: products, D x D") in ratios
    assert all(value > 0 for value in ratios.values())


@pytest.mark.slow
def test_metrics_agree_with_monai():
    rows = rows_of("metrics.py", "--side", "48")
    measured = [row for row in rows if "classes" in row[0]]
    assert len(measured) == 4
    assert all(float(row[4]) < 1e-6 and float(row[5]) < 1e-6 for row in measured)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_mae(precision: str):
    rows = rows_of("mae.py", "--precision", precision, "--side", "32", "--batch", "2", "--small")
    names = [row[0] for row in rows]
    assert {"matrix products alone", "a minimal model", "medssl"} <= set(names)
    assert float(rows[names.index("medssl")][2]) == 1.0
