import itertools
import time

import pytest
import torch

from medssl.training.timing import Timer, speed


def step(timer):
    for _ in range(3):
        timer.mark()


def test_waiting_and_computing_are_told_apart_and_what_lies_between_is_neither(monkeypatch):
    clock = itertools.accumulate([0.0, 3, 1, 100, 2, 4, 100, 5, 0.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    timer = Timer(torch.device("cpu"))
    step(timer)
    step(timer)
    assert timer.read() == (5.0, 5.0)
    step(timer)
    assert timer.read() == (5.0, 0.5)
    assert timer.read() == (0, 0)


def test_what_a_log_shows():
    shown = speed((1.0, 3.0), 8)
    assert shown == {"data_fraction": 0.25, "samples_per_second": 2.0}
    assert speed((0.0, 0.0), 0)["data_fraction"] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_device_is_timed_and_not_the_host():
    device = torch.device("cuda")
    timer = Timer(device)
    work = torch.randn(4096, 4096, device=device)
    for _ in range(10):
        timer.mark()
        timer.mark()
        for _ in range(20):
            work = work @ work / 64
        timer.mark()
    waiting, computing = timer.read()
    assert waiting < 0.2 * computing
