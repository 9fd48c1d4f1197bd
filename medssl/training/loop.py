"""One training loop for every verb that trains.

It runs on Lightning Fabric: the loop stays ours, one screen long and exact about what a step is,
and devices, precision and processes are Lightning's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl.tracking import Run
from medssl.training.data import loader
from medssl.training.engine import Engine
from medssl.training.history import History
from medssl.training.settings import LoopConfig
from medssl.training.task import AfterStep, Batches, Task, Watcher

__all__ = ["AfterStep", "Batches", "History", "LoopConfig", "Task", "Watcher", "fit"]


def fit(
    task: Task,
    source: Any,
    config: LoopConfig,
    folder: Path,
    run: Run,
    *,
    resume: bool = False,
    after_step: AfterStep | None = None,
    watchers: Sequence[Watcher] = (),
    batches: Batches = loader,
    description: str = "training",
) -> History:
    """Train ``task`` on ``source``, writing checkpoints to ``folder/checkpoints``.

    With several processes each calls this; files and MLflow are written by the first alone, and
    ``after_step`` is called there alone; with ``strategy=fsdp`` on each, since none has the whole
    model (see :func:`medssl.training.sharding.usable`). When it returns, the processes have parted
    again, and each has the whole.

    Args:
        task: the module, initialised; it is trained in place, and is on the CPU afterwards.
        source: where samples come from, as ``batches`` takes it.
        config: length, optimiser, devices.
        folder: the run's output folder, seen by all processes.
        run: the MLflow run that metrics go to.
        resume: go on from the newest checkpoint of ``folder``.
        after_step: called with (steps done, batch); what it returns is logged.
        watchers: follow the run, on every process.
        batches: makes the batches of a source, as :func:`medssl.training.data.loader`.
        description: the text of the progress bar.

    Raises:
        MedsslError: DEVICE_MISSING, CONFIG_INVALID, TRAINING_DIVERGED, CHECKPOINT_CORRUPT,
            OUT_OF_MEMORY, DISK_FULL; RUN_STOPPED after a signal.
    """
    with Engine(task, config, folder, run, list(watchers), after_step) as engine:
        if resume:
            engine.restore()
        engine.train(batches, source, description)
    return engine.history
