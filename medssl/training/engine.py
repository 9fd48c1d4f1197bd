"""The state of a run in one process, and what one step is."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from medssl.errors import MedsslError
from medssl.networks.teacher import cosine_between
from medssl.progress import track
from medssl.tracking import Run
from medssl.training import checkpoint
from medssl.training.devices import check_shares, open_fabric, set_up
from medssl.training.history import History, Reporter
from medssl.training.optim import set_rates
from medssl.training.schedule import Schedule
from medssl.training.settings import LoopConfig
from medssl.training.sharding import units, unshard, whole
from medssl.training.step import check_finite, moved, scalar, seed_step
from medssl.training.stopping import StopRequest, stopped
from medssl.training.system import SystemMeter
from medssl.training.task import AfterStep, Batches, Task, Watcher
from medssl.training.timing import Timer, speed

BRANCH = "hold"  # the folder of the checkpoint before the annealing


class Engine:
    """A run in this process: a context manager that catches signals and finishes writing."""

    def __init__(
        self,
        task: Task,
        config: LoopConfig,
        folder: Path,
        run: Run,
        watchers: list[Watcher],
        after_step: AfterStep | None,
    ) -> None:
        self._task, self._config, self._folder = task, config, folder
        self._watchers, self._after_step = watchers, after_step
        self._fabric = open_fabric(config)
        check_shares(config, task, self._fabric.world_size)
        if config.compile:
            for part in units(task) if config.strategy == "fsdp" else [task]:
                part.compile()
        self._model, self._optimiser, self._stepper = set_up(self._fabric, task, config)
        self._sharded = config.strategy == "fsdp"
        self._leads = bool(self._fabric.is_global_zero)
        self._reporter, self._timer = Reporter(run), Timer(self._fabric.device)
        self._writer = checkpoint.CheckpointWriter(folder / "checkpoints")
        self._stop = StopRequest()
        self._stack = ExitStack()
        self._done, self._first_steps = 0, config.steps
        self.history = History()
        self._meter, self._note = SystemMeter(self._fabric.device), ""

    def __enter__(self) -> Engine:
        self._stack.enter_context(self._writer)
        self._stack.enter_context(self._stop)
        if self._leads:
            self._stack.callback(self._reporter.send)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None and dist.is_available() and dist.is_initialized():
            self._part()

    def _part(self) -> None:
        """Leave the other processes: what follows is computed by each alone.

        DDP holds on to the process group, and whoever lets go of it last waits for its threads. In
        DDP's destructor that would be with Python's lock, which those threads may need: a deadlock,
        seen in two runs of nine on busy cores. So DDP goes first.
        """
        self._fabric.barrier()
        del self._model, self._stepper
        self._logs.clear()
        gc.collect()
        dist.destroy_process_group()

    def restore(self) -> None:
        """Go on from the newest checkpoint that leads to the run's steps."""

        def leads_there(step: int, extra: dict[str, Any]) -> bool:
            return extra.get("steps", self._config.steps) == self._config.steps or (
                step <= int(extra["branch"])
            )

        folder = self._writer.folder
        self._done, extra = checkpoint.load_newest(
            folder, self._task, self._optimiser, usable=leads_there
        )
        self._fabric.barrier()
        if self._leads:
            # What was annealed to an earlier end is not on the way to this one.
            checkpoint.drop_after(folder, self._done)
        self.history.rows = extra["rows"]
        self._first_steps = int(extra.get("first_steps", self._config.steps))
        scaler = self._scaler()
        if scaler is not None and extra.get("scaler"):
            scaler.load_state_dict(extra["scaler"])

    def train(self, batches: Batches, source: Any, description: str) -> None:
        """The steps that are left."""
        config = self._config
        schedule = Schedule.of(config, self._first_steps)
        started = time.perf_counter()
        self._task.train()
        self._timed = self._done
        supply = self._supply(batches, source)
        steps = range(self._done, config.steps)
        shown = (
            track(steps, description, total=len(steps), note=lambda: self._note)
            if self._leads
            else iter(steps)
        )
        for step in shown:
            self._one(step, schedule, supply)
            stop = self._report(step + 1)
            due = (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps
            if due or stop:
                # A checkpoint of ruined weights would push out the good ones.
                check_finite(self._numbers()[0], step + 1, config)
                self._save(step + 1, schedule)
            if step + 1 == schedule.branch < config.steps:
                self._save(step + 1, schedule, BRANCH)
            if stop and step + 1 < config.steps:
                self._writer.wait()
                raise stopped(step + 1)
        self.history.seconds = time.perf_counter() - started
        if self._sharded:
            unshard(self._task, self._optimiser)
        self._task.cpu()
        if self._leads:
            self.history.write(self._folder / "history.csv")

    def _supply(self, batches: Batches, source: Any) -> Iterator[Any]:
        config, fabric = self._config, self._fabric
        shares: dict[str, int] = {}
        if fabric.world_size * config.accumulate > 1:
            shares = {
                "rank": fabric.global_rank,
                "world": fabric.world_size,
                "accumulate": config.accumulate,
            }
        return iter(
            batches(source, config.batch_size, self._done, config.steps, config.workers, **shares)
        )

    def _one(self, step: int, schedule: Schedule, supply: Iterator[Any]) -> None:
        """Train one step; ``step`` from 0."""
        config, fabric = self._config, self._fabric
        progress = (step + 1) / self._first_steps
        decay = config.weight_decay
        if config.weight_decay_end is not None:
            decay = cosine_between(decay, config.weight_decay_end, step / self._first_steps)
        self._lr = config.lr * schedule.factor(step)
        set_rates(self._optimiser, self._lr, decay)
        seed_step(config.seed, step, fabric.global_rank)
        self._task.begin_step(step, min(1.0, step / self._first_steps))
        losses, found = [], []
        for micro in range(config.accumulate):
            self._timer.mark()
            batch = moved(next(supply), fabric.device)
            self._timer.mark()
            for watcher in self._watchers:
                watcher.before_step(step + 1, batch)
            last = micro + 1 == config.accumulate
            loss, logs = self._backward(batch, last)
            losses.append(loss.detach())
            found.append(logs)
            if not last:
                self._timer.mark()
        self._batch = batch
        norm = whole(
            fabric.clip_gradients(
                self._model, self._stepper, max_norm=config.clip, error_if_nonfinite=False
            )
        )
        for watcher in self._watchers:
            watcher.after_backward(step + 1, torch.stack(losses).mean(), norm)
        self._stepper.step()
        self._stepper.zero_grad(set_to_none=True)
        self._task.after_update(min(1.0, progress))
        self._timer.mark()
        self._logs = {"loss": losses, "gradient_norm": [norm]}
        self._logs |= {name: [logs[name] for logs in found] for name in found[0]}

    def _backward(self, batch: Any, last: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of a micro-step; those of the last one meet the other processes'."""
        config, fabric = self._config, self._fabric
        try:
            if config.accumulate == 1:
                loss, logs = self._model(batch)
                fabric.backward(loss)
            else:
                with fabric.no_backward_sync(self._model, enabled=not last):
                    loss, logs = self._model(batch)
                    fabric.backward(loss / config.accumulate)
        except torch.OutOfMemoryError:
            raise MedsslError(
                "OUT_OF_MEMORY",
                "The device ran out of memory",
                fix="Lower batch_size, or raise accumulate.",
            ) from None
        return loss, logs

    def _report(self, done: int) -> bool:
        """Log the step where it is time to; returns whether the run is asked to stop.

        Processes agree on stopping when they read their logs, so that asking costs nothing
        between; a process alone stops after the step.
        """
        config, alone = self._config, self._fabric.world_size == 1
        row: dict[str, float] = {}
        measured: dict[str, float] = {}
        stop = False
        if done % config.log_every == 0 or done in (1, config.steps):
            numbers, stop = self._numbers()
            row = {"step": done, "lr": self._lr, **numbers}
            measured = self._speed(done)
            for watcher in self._watchers:
                watcher.on_row(done, dict(row))
            check_finite(numbers, done, config)
        if self._after_step and (self._leads or self._sharded):
            extra = self._after_step(done, self._batch)
            if extra:
                row = {"step": done, **row, **extra}
                self._task.train()
        if row:
            self.history.rows.append(row)
            if self._leads:
                self._reporter.add({**row, **measured})
        return bool(self._stop.asked) if alone else stop

    def _speed(self, done: int) -> dict[str, float]:
        """How fast the run is and what of the machine it uses: of this hour, not of the run."""
        samples = (done - self._timed) * self._config.batch_size
        self._timed = done
        found = speed(self._timer.read(), samples)
        self._note = f"data {found['data_fraction']:.0%}"
        found |= self._meter.read()
        self.history.speed.append({"step": done, **found})
        return found

    def _numbers(self) -> tuple[dict[str, float], bool]:
        """The logged scalars, means over micro-steps and processes, in one transfer; and stop."""
        parts = [torch.stack([scalar(v) for v in found]).mean() for found in self._logs.values()]
        asked = 1.0 if self._stop.asked else 0.0
        if self._fabric.world_size == 1:
            return dict(zip(self._logs, torch.stack(parts).tolist(), strict=True)), bool(asked)
        packed = torch.stack([*parts, torch.full_like(parts[0], asked)])
        *values, stop = self._fabric.all_reduce(packed, reduce_op="mean").tolist()
        return dict(zip(self._logs, values, strict=True)), stop > 0

    def _save(self, done: int, schedule: Schedule, branch: str = "") -> None:
        if not (self._leads or self._sharded):
            return
        scaler = self._scaler()
        extra = {
            "rows": self.history.rows,
            "steps": self._config.steps,
            "first_steps": self._first_steps,
            "branch": schedule.branch,
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        self._writer.save(done, self._task, self._optimiser, extra, branch, self._leads)
        if self._leads:
            self.history.write(self._folder / "history.csv")
            self._reporter.send()

    def _scaler(self) -> Any:
        """What scales losses in fp16, else None."""
        return getattr(self._fabric.strategy.precision, "scaler", None)
