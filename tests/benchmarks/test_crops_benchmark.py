import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_growth_prints_a_row_for_each_size():
    script = FOLDER / "growth.py"
    command = [sys.executable, script, "20", "300", "--samples", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines()[2:]]
    assert [int(row[1]) for row in rows] == [20, 300]
    assert rows[0][4].strip() == "1.00x"


@pytest.mark.slow
def test_crops_are_measured_beside_what_is_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    import crops

    rng = np.random.default_rng(0)
    small = [rng.integers(0, 999, (20, 18, 16)).astype(np.int16) for _ in range(2)]
    monkeypatch.setattr(crops, "VOLUMES", 2)
    monkeypatch.setattr(crops, "volume", small.__getitem__)
    crops.main(tmp_path, size=8, seconds=0.01, rounds=1, cache=True)
    printed = capsys.readouterr().out
    for name in ("medssl, ring, 2 workers", "floor: the same of", "nnssl"):
        assert f"| {name}" in printed
    assert "the ring is" in printed
