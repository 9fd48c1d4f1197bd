import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "burned_in.py"


@pytest.mark.slow
@pytest.mark.data
def test_it_prints_what_is_found_and_what_is_not(data_root):
    done = subprocess.run([sys.executable, SCRIPT, data_root], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ") for line in done.stdout.splitlines()
    }
    assert float(rows["all"][2].split()[0]) > 80
    assert rows["CT, slices"]
