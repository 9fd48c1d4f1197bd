import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scale.py"


@pytest.mark.slow
def test_it_prints_memory_and_time():
    small = ["--series", "3", "--slices", "5"]
    done = subprocess.run([sys.executable, SCRIPT, *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "15 files, 3 series" in done.stdout
    assert done.stdout.count(" MB |") == 2
