import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "views.py"


@pytest.mark.slow
@pytest.mark.parametrize("case", ["28 px", "64^3"])
def test_it_prints_a_row_for_every_library(case):
    small = ["--cases", case, "--batch", "1", "--rounds", "1", "--once", "0"]
    done = subprocess.run([sys.executable, SCRIPT, *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith(f"| {case}")]
    assert [row[1] for row in rows][:3] == ["medssl", "medssl, elastic too", "medssl, place alone"]
    assert {"MONAI", "TorchIO", "kornia", "bare grid_sample", "batchgeneratorsv2"} <= {
        row[1] for row in rows
    }
    measured = {row[1]: float(row[2]) for row in rows if row[1] in ("medssl", "MONAI")}
    assert all(rate > 0 for rate in measured.values())
