"""The benchmark of the methods' steps: a row for each, and bare passes that are all there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medssl.methods import METHODS
from medssl.networks import build_encoder

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import methods

    return methods


@pytest.mark.parametrize(
    ("name", "networks"),
    [
        ("simclr", ["UNetEncoder", "Projector"]),
        ("swav", ["UNetEncoder", "Projector", "Prototypes", "Prototypes", "Prototypes"]),
        ("mae", ["UNetEncoder", "Decoder"]),
    ],
)
def test_bare_passes_are_the_steps_calls_with_its_gradients(benchmark, name, networks):
    torch.manual_seed(0)
    encoder = build_encoder("unet", 2, 1, widths=[4, 8])
    step, passes, calls = benchmark.rivals(
        name, encoder, benchmark.crops(4, 2, 16, torch.device("cpu"))
    )
    assert [type(call.module).__name__ for call in calls] == networks
    step()
    expected = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    passes()
    found = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    assert len(found) > 4
    assert set(found) == set(expected)
    if name != "swav":  # whose queue the first step filled
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_every_method_has_its_row(benchmark, capsys, dims):
    threads = torch.get_num_threads()
    benchmark.main(dims=dims, encoder="unet", only=None, small=True, rounds=1, threads=threads,
                   batch=0, side=0, device="cpu", processor=False)  # fmt: skip
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0].removesuffix(" (vit)") for row in rows] == list(METHODS)
    assert "mp3 (vit)" in [row[0] for row in rows]
    for row in rows:
        assert float(row[4]) > 0
