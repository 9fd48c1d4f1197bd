"""The largest batch that fits into memory: doubled until it does not, then bisected."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from medssl.errors import MedsslError
from medssl.training.devices import layout
from medssl.training.settings import LoopConfig
from medssl.training.system import memory_free, memory_used
from medssl.training.task import Task
from medssl.training.trial import Trial, repeated

# Of the memory that is free, what a batch may take: the rest is for other programs, for data, and
# for what fragments. A CPU's memory is shared, and what goes over it kills the process.
SHARE = {"cpu": 0.6, "cuda": 0.9}
_SECONDS = 10.0
_STEPS_AN_EPOCH = 8


def largest_batch(
    task: Task, sample: Mapping[str, Tensor], config: LoopConfig, volumes: int
) -> int:
    """The most samples of one step whose memory fits, at least 2.

    An epoch keeps at least eight steps, however much memory there is.

    Args:
        task: trained on trial: it is changed, throw it away.
        sample: a batch of two crops or more, on the CPU.
        config: device, precision, optimiser; a step's samples are shared by ``accumulate``.
        volumes: how many there are.

    Raises:
        MedsslError: OUT_OF_MEMORY where two samples do not fit; CONFIG_INVALID with several
            processes.
    """
    if layout(config) != (1, 1):
        raise MedsslError(
            "CONFIG_INVALID",
            "batch_size=auto is for one process",
            where="batch_size",
            fix="Find it with --dry-run on one device, and give its number times the processes.",
        )
    trial = Trial(task, config)
    fits = _FitsDevice(trial, sample) if trial.device.type == "cuda" else _FitsHost(trial, sample)
    most = volumes // _STEPS_AN_EPOCH // config.accumulate
    found = largest(fits, 2, max(2, most))
    del trial, fits
    _free()
    if not found:
        raise MedsslError(
            "OUT_OF_MEMORY",
            "Two samples do not fit into memory",
            fix="Lower patch_size, or take a smaller encoder.",
        )
    return found * config.accumulate


def largest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest number from ``least`` to ``most`` that fits, to an eighth; 0 where none does.

    Doubles until one does not fit, then bisects. ``fits`` must not fit again above one that does
    not.
    """
    if not fits(least):
        return 0
    good, bad = least, most + 1
    while good < most:
        tried = min(2 * good, most)
        if not fits(tried):
            bad = tried
            break
        good = tried
    while bad <= most and bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


class _FitsDevice:
    """Whether a step of so many samples fits a GPU: by trying."""

    def __init__(self, trial: Trial, sample: Mapping[str, Tensor]) -> None:
        self._trial, self._sample = trial, sample
        free, _ = torch.cuda.mem_get_info(trial.device)
        own = torch.cuda.memory_reserved(trial.device)
        self._budget = SHARE["cuda"] * (free + own)

    def __call__(self, count: int) -> bool:
        trial = self._trial
        _free()
        trial.forget_peak()
        try:
            trial.step(trial.moved(repeated(self._sample, count)))
            trial.wait()
        except torch.OutOfMemoryError:
            return False
        return trial.peak() <= self._budget


class _FitsHost:
    """Whether a step of so many samples fits the memory of the machine.

    What does not fit would kill the process, so a size is foretold from two smaller ones before it
    is tried; memory grows in proportion to the samples. Sizes that would take too long are not
    tried.
    """

    def __init__(self, trial: Trial, sample: Mapping[str, Tensor]) -> None:
        self._trial, self._sample = trial, sample
        self._budget = memory_used() + SHARE["cpu"] * memory_free()
        self._seen: list[tuple[int, int]] = []
        self._until, self._rate = time.perf_counter() + _SECONDS, 0.0

    def __call__(self, count: int) -> bool:
        if len(self._seen) > 1:
            (fewer, low), (more, high) = self._seen[-2:]
            foretold = high + (high - low) / (more - fewer) * (count - more)
            if foretold > self._budget:
                return False
            if time.perf_counter() + count * self._rate > self._until:
                return True
        trial = self._trial
        _free()
        trial.forget_peak()
        started = time.perf_counter()
        trial.step(repeated(self._sample, count))
        self._rate = (time.perf_counter() - started) / count
        peak = trial.peak()
        if not self._seen or count > self._seen[-1][0]:
            self._seen.append((count, peak))
        return peak <= self._budget


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
