import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "leakage.py"


@pytest.mark.slow
@pytest.mark.data
def test_exported_copies_are_found_and_few_others(data_root):
    command = [sys.executable, SCRIPT, data_root, "--volumes", "100"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    hippocampus = done.stdout.split("## Exported again, hippocampus")[1].split("## ")[0]
    rows = [line.strip("| ").split(" | ") for line in hippocampus.splitlines() if "%" in line]
    assert len(rows) == 11
    assert {row[4] for row in rows} == {"100 %"}  # one of the three ways finds every copy
    assert max(int(row[5]) for row in rows) <= 2
