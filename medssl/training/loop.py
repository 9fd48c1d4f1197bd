"""One training loop for every verb that trains.

It runs on Lightning Fabric: the loop stays ours, one screen long and exact about what a step is,
and devices, precision and processes are Lightning's.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.config import StrictModel
from medssl.errors import MedsslError
from medssl.progress import track
from medssl.tracking import Run
from medssl.training import checkpoint
from medssl.training.data import CropSource, loader
from medssl.training.optim import adamw, cosine


class LoopConfig(StrictModel):
    """What every training run has: its length, optimiser, device and how often it reports."""

    steps: int = Field(1000, ge=1)
    batch_size: int = Field(4, ge=1)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    beta2: float = Field(0.99, gt=0, lt=1)
    warmup: float = Field(0.05, ge=0, lt=1, description="fraction of the steps")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    seed: int = Field(0, ge=0)
    workers: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    log_every: int = Field(10, ge=1)
    checkpoint_every: int = Field(500, ge=1)


@dataclass
class History:
    """Metrics by step, one row per log; ``seconds`` counts the loop alone."""

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def write(self, path: Path) -> None:
        """Write the rows as CSV."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(self.rows)


class Task(nn.Module):
    """What the loop trains: called with a batch it returns the loss (scalar) and what to log."""

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """One step on one batch (:class:`medssl.training.data.Batch`)."""
        raise TypeError("a Task defines forward")


AfterStep = Callable[[int, Any], dict[str, float] | None]


def fit(
    task: Task,
    source: CropSource,
    config: LoopConfig,
    folder: Path,
    run: Run,
    *,
    resume: bool = False,
    after_step: AfterStep | None = None,
    description: str = "training",
) -> History:
    """Train ``task`` on ``source``, writing checkpoints to ``folder/checkpoints``.

    Args:
        task: the module, initialised; it is trained in place.
        source: where samples come from.
        config: length, optimiser, device.
        folder: the run's output folder.
        run: the MLflow run that metrics go to.
        resume: go on from the newest checkpoint of ``folder``.
        after_step: called with (steps done, batch); what it returns is logged.
        description: the text of the progress bar.

    Raises:
        MedsslError: DEVICE_MISSING, TRAINING_DIVERGED, CHECKPOINT_CORRUPT, OUT_OF_MEMORY.
    """
    fabric = _fabric(config)
    optimiser = adamw(task, config.lr, config.weight_decay, (0.9, config.beta2))
    history, done = History(), 0
    checkpoints = folder / "checkpoints"
    if resume:
        done, extra = checkpoint.load_newest(checkpoints, task, optimiser)
        history.rows = extra["rows"]
    model, optimiser = fabric.setup(task, optimiser)
    batches = loader(source, config.batch_size, done, config.steps, config.workers)
    batches = fabric.setup_dataloaders(batches, use_distributed_sampler=False)
    started = time.perf_counter()
    task.train()
    batch: Any
    for batch in track(batches, description, total=config.steps - done):
        factor = cosine(done, config.steps, round(config.warmup * config.steps))
        for group in optimiser.param_groups:
            group["lr"] = config.lr * factor
        loss, logs = _backward(fabric, model, batch)
        norm = fabric.clip_gradients(
            model, optimiser, max_norm=config.clip, error_if_nonfinite=False
        )
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        done += 1
        row: dict[str, float] = {}
        if done % config.log_every == 0 or done == config.steps or done == 1:
            logs = {"loss": loss, "gradient_norm": norm, **logs}
            row = {"step": done, "lr": config.lr * factor, **_numbers(logs, done)}
        extra_row = after_step(done, batch) if after_step else None
        if extra_row:
            row = {"step": done, **row, **extra_row}
            task.train()
        if row:
            history.rows.append(row)
            run.log_metrics({k: v for k, v in row.items() if k != "step"}, done)
        if done % config.checkpoint_every == 0 or done == config.steps:
            checkpoint.save(checkpoints, done, task, optimiser, {"rows": history.rows})
    history.seconds = time.perf_counter() - started
    task.cpu()
    history.write(folder / "history.csv")
    return history


def _backward(fabric: Any, model: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    try:
        loss, logs = model(batch)
        fabric.backward(loss)
    except torch.OutOfMemoryError:
        raise MedsslError(
            "OUT_OF_MEMORY", "The device ran out of memory", fix="Lower batch_size."
        ) from None
    return loss, logs


def _fabric(config: LoopConfig) -> Any:
    from lightning.fabric import Fabric

    if config.device == "cuda" and not torch.cuda.is_available():
        raise MedsslError(
            "DEVICE_MISSING", "There is no CUDA device", where="device", fix="Use device=cpu."
        )
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = {"fp32": "32-true", "bf16": "bf16-mixed"}[config.precision]
    return Fabric(accelerator=device, devices=1, precision=precision)


def _numbers(logs: dict[str, Tensor], step: int) -> dict[str, float]:
    """Read the logged scalars, one transfer for all of them."""
    values = torch.stack([value.detach().float().reshape(()) for value in logs.values()]).tolist()
    numbers = dict(zip(logs, values, strict=True))
    if not all(abs(value) < float("inf") for value in values):
        raise MedsslError(
            "TRAINING_DIVERGED",
            f"The loss or its gradient is not finite at step {step}",
            fix="Lower lr, or use precision=fp32.",
        )
    return numbers
