from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_the_whole_script_runs_on_a_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    import crops
    import gpu

    rng = np.random.default_rng(0)
    small = [rng.integers(0, 999, (52, 50, 48)).astype(np.int16) for _ in range(4)]
    monkeypatch.setattr(crops, "VOLUMES", 4)
    monkeypatch.setattr(crops, "volume", small.__getitem__)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    gpu.main(tmp_path, device=device, small=True, workers=1, budget=0.1)
    printed = capsys.readouterr().out
    assert "| random bits | 0 |" in printed
    for name in ("of the measured peak", "bare resampling", "of the time computing", "auto finds"):
        assert name in printed
    for run in ("again", "stopped and resumed", "ddp on one device", "fsdp on one device"):
        line = next(line for line in printed.splitlines() if line.startswith(f"| {run} |"))
        losses, weights = (float(cell) for cell in line.split("|")[2:4])
        assert losses < 1e-4
        assert weights < 1e-4
