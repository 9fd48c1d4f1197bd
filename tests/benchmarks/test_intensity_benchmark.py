import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "intensity.py"


@pytest.mark.slow
def test_it_prints_the_cost_of_every_change():
    done = subprocess.run([sys.executable, SCRIPT, "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert rows[0].split()[-2:] == ["4x1x28x28", "1x1x16x16x16"]
    assert len(rows) == 19
    assert all(float(row.split()[-1]) > 0 for row in rows[1:])
