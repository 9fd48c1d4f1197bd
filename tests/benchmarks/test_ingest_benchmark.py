import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ingest.py"


@pytest.mark.slow
def test_it_prints_a_row_for_every_reader():
    small = ["--series", "1", "--slices", "4", "--side", "16", "--rounds", "1"]
    done = subprocess.run([sys.executable, SCRIPT, *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if "|" in line]
    assert {"read the bytes", "SimpleITK", "monai", "medssl, 1 workers"} <= set(rows)
