"""Steps on trial: what one costs, in memory and time, without a run around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medssl.training.devices import open_fabric, set_up
from medssl.training.settings import LoopConfig
from medssl.training.system import memory_peak, memory_used
from medssl.training.task import Task


class Trial:
    """Trains a task that is thrown away afterwards, step by step.

    Args:
        task: what is trained; it changes.
        config: device, precision and optimiser.
    """

    def __init__(self, task: Task, config: LoopConfig) -> None:
        self._fabric = open_fabric(config)
        self._model, _, self._stepper = set_up(self._fabric, task, config)
        self._task = task.train()
        self.device: torch.device = self._fabric.device

    def moved(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch on the device."""
        return {name: value.to(self.device) for name, value in batch.items()}

    def gradients(self, batch: Any) -> None:
        """Forward and backward."""
        loss, _ = self._model(batch)
        self._fabric.backward(loss)

    def update(self) -> None:
        """The optimiser's step, on the gradients there are, or on zeros for a first time."""
        for parameter in self._task.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._stepper.step()

    def step(self, batch: Any) -> None:
        """A whole step."""
        self.gradients(batch)
        self.update()
        self._stepper.zero_grad(set_to_none=True)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], budget: float) -> float:
        """Seconds that ``work`` takes, the mean over as many times as fit into the budget; the
        first, which sets things up, counts only where it spends the budget alone."""
        started = time.perf_counter()
        work()
        self.wait()
        if (first := time.perf_counter() - started) > budget:
            return first
        started, times = time.perf_counter(), 0
        while times == 0 or time.perf_counter() - started < budget:
            work()
            self.wait()
            times += 1
        return (time.perf_counter() - started) / times

    def forget_peak(self) -> None:
        """Begin to look for the largest use of memory anew."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return  # the peak is then that of the whole process, which only grows

    def peak(self) -> int:
        """The most bytes in use since then, on the device."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_reserved(self.device))
        return memory_peak() or memory_used()


def repeated(batch: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """A batch of ``count`` samples, made by repeating those there are; keys are their own."""
    have = len(batch["key"])
    places = torch.arange(count) % have
    return {**{name: value[places] for name, value in batch.items()}, "key": torch.arange(count)}
