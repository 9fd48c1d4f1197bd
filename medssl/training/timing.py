"""How long a run waits for data, and how long it computes, without waiting for the device itself.

On CUDA the host runs ahead of the device, so the time that the host waits for a batch says nothing.
Events in the device's stream do: from the end of one step to the start of the next, the device had
nothing to do but to receive the batch. They are read when the log is.
"""

from __future__ import annotations

import time
from typing import Any

import torch


class Timer:
    """Measures the steps of a loop.

    Call :meth:`mark` three times a step: before a batch is asked for, when it is there, and after
    the last work of the step. What lies between two steps (logs, previews, checkpoints) is neither
    data nor compute.

    Args:
        device: where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Note the time, in the device's stream where it has one."""
        if self._device.type != "cuda":
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._marks.append(event)

    def read(self) -> tuple[float, float]:
        """(seconds waiting for data, seconds computing) in the steps since the last reading.

        On CUDA it waits for the last step's end, as reading its loss does.
        """
        marks, self._marks = self._marks, []
        waiting = computing = 0.0
        if marks and self._device.type == "cuda":
            marks[-1].synchronize()
        for asked, arrived, done in zip(marks[::3], marks[1::3], marks[2::3], strict=True):
            waiting += self._between(asked, arrived)
            computing += self._between(arrived, done)
        return waiting, computing

    def _between(self, first: Any, second: Any) -> float:
        if self._device.type == "cuda":
            return float(first.elapsed_time(second)) / 1000.0
        return float(second - first)


def speed(seconds: tuple[float, float], samples: int) -> dict[str, float]:
    """What a log shows of :meth:`Timer.read`: ``data_fraction`` of the time was waiting for data;
    ``samples_per_second``, of ``samples`` in that time."""
    waiting, computing = seconds
    whole = max(waiting + computing, 1e-9)
    return {"data_fraction": waiting / whole, "samples_per_second": samples / whole}
