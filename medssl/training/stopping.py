"""Signals that ask a run to stop: it finishes the step, writes a checkpoint and says how to go on.

SIGTERM comes from a scheduler or a container, SIGINT from Ctrl-C, SIGUSR1 from Slurm some time
before the end of a slot (``sbatch --signal=USR1@120``).
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from medssl.errors import MedsslError

_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")


class StopRequest:
    """While it is open, signals set ``asked`` instead of ending the process.

    A second Ctrl-C ends it at once. Outside the main thread, where Python allows no handlers,
    nothing is caught.
    """

    def __init__(self) -> None:
        self.asked = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name


def stopped(step: int) -> MedsslError:
    """What is raised once the checkpoint of ``step`` is written."""
    return MedsslError(
        "RUN_STOPPED",
        f"Stopped as asked; the checkpoint of step {step} is written",
        fix="The same command with --resume goes on.",
    )
