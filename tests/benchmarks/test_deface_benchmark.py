import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "deface.py"


@pytest.mark.slow
def test_it_prints_a_row_for_every_contrast():
    small = [sys.executable, SCRIPT, "--heads", "1", "--voxel", "4"]
    env = {k: v for k, v in os.environ.items() if k != "MEDSSL_TEST_DATA"}
    done = subprocess.run(small, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| medssl")]
    assert [row[1] for row in rows] == ["CT", "T1", "FLAIR", "PT"]
