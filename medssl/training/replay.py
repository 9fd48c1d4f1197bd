"""Running one step of a stopped run again, to see which tensor broke first.

What is kept of a step is its number and its batch. The weights before it are those of the newest
checkpoint, trained on to it: samples and random numbers depend only on the seed and the step, so
the steps between are the same again. That costs at most ``checkpoint_every`` steps when someone
wants to know, where keeping weights would cost every run at every step.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medssl.errors import MedsslError

KEPT = frozenset({"TRAINING_DIVERGED", "TRAINING_COLLAPSED"})
"""Codes of the errors whose step is kept."""

FOLDER, RECORD, BATCH = "replay", "replay.json", "batch.safetensors"


@dataclass(frozen=True)
class Seen:
    """A tensor of the step: where it was seen, and what it held.

    ``kind`` is "input", "weight" (before the step), "output" (of a module), "loss" or "gradient";
    ``largest`` is the largest absolute value among the finite ones.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    finite: bool
    largest: float

    @classmethod
    def of(cls, kind: str, name: str, tensor: Tensor) -> Seen:
        """Look at a tensor; waits for the device."""
        values = tensor.detach().float()
        good = values.isfinite()
        largest = values.where(good, 0.0).abs().amax() if values.numel() else torch.zeros(())
        return cls(kind, name, tuple(values.shape), bool(good.all()), float(largest))


@dataclass
class Replay:
    """What one step did: its tensors in the order in which they came to be."""

    step: int
    seen: list[Seen] = field(default_factory=list)

    @property
    def first_bad(self) -> int | None:
        """Place in ``seen`` of the first tensor that is not finite; None where all are."""
        return next((i for i, tensor in enumerate(self.seen) if not tensor.finite), None)


def keep(
    out: Path, step: int, error: MedsslError, config: Mapping[str, Any], batch: Mapping[str, Tensor]
) -> Path:
    """Write what :func:`replay` needs of a step to ``out/replay/step-N``.

    The batch holds image crops: it stays in the run's folder, and nothing else is sent anywhere.

    Args:
        out: the run's folder.
        step: the step, 1 for the first.
        error: why the run stopped.
        config: the resolved configuration.
        batch: the step's batch, on the CPU.

    Returns:
        the folder.
    """
    folder = out / FOLDER / f"step-{step:08d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in batch.items()}, folder / BATCH)
    size = int(config["batch_size"])
    record = {
        "step": step,
        "code": error.code,
        "what": error.what,
        "samples": [(step - 1) * size, step * size],
        "checkpoint": _before(out, step),
        "config": dict(config),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
    return folder


def kept(out: Path) -> dict[str, Any]:
    """The record of the newest step that a run kept.

    Raises:
        MedsslError: INPUT_MISSING where it kept none, or its checkpoint is gone.
    """
    records = sorted((out / FOLDER).glob(f"step-*/{RECORD}"))
    if not records:
        raise MedsslError(
            "INPUT_MISSING",
            "The run kept no step to replay",
            where=f"{out.name}/{FOLDER}",
            fix="Only a run that stopped with TRAINING_DIVERGED or TRAINING_COLLAPSED keeps one.",
        )
    record: dict[str, Any] = json.loads(records[-1].read_text(encoding="utf-8"))
    if record["checkpoint"] and not (out / "checkpoints" / record["checkpoint"]).is_dir():
        raise MedsslError(
            "INPUT_MISSING",
            "The checkpoint before the kept step is gone",
            where=str(record["checkpoint"]),
        )
    return record


def replay(
    out: Path,
    record: Mapping[str, Any],
    task: nn.Module,
    train: Callable[[Path, bool, Finder], object],
) -> Replay:
    """Run the kept step again, and look at every tensor of it.

    Args:
        out: the run's folder; nothing is left in it.
        record: of :func:`kept`.
        task: what is trained, as at the start of the run.
        train: trains ``task`` in a folder, going on from its checkpoint where the second argument
            is true, with a watcher that stops it.
    """
    finder = Finder(task, int(record["step"]))
    with tempfile.TemporaryDirectory(prefix=".replay-", dir=out) as work:
        name = record["checkpoint"]
        if name:
            # Links, so that a checkpoint of many gigabytes is not copied.
            shutil.copytree(
                out / "checkpoints" / name, Path(work) / "checkpoints" / name, copy_function=os.link
            )
        try:
            train(Path(work), bool(name), finder)
        except Finished:
            return finder.found
        finally:
            finder.let_go()
    raise MedsslError(
        "RESUME_MISMATCH", "The run ended before the kept step", where=f"step {record['step']}"
    )


def _before(out: Path, step: int) -> str:
    """The newest checkpoint of fewer steps than ``step``, "" where there is none."""
    found = [path.name for path in (out / "checkpoints").glob("step-*") if path.is_dir()]
    return max((name for name in found if int(name.removeprefix("step-")) < step), default="")


class Finished(Exception):  # noqa: N818
    """Ends a replay where it has seen what it wanted."""


class Finder:
    """A watcher that looks at every tensor of one step, then ends the run with :class:`Finished`.

    A step before it that is not finite is looked at instead, as far as it still can be.
    """

    def __init__(self, task: nn.Module, step: int) -> None:
        self._task, self._step = task, step
        self.found = Replay(step)
        self._hooks: list[Any] = []

    def before_step(self, step: int, batch: Mapping[str, Tensor]) -> None:
        """Look at the batch and the weights, and hook into modules and gradients."""
        if step != self._step:
            return
        see = self.found.seen.append
        for name, value in batch.items():
            if value.is_floating_point():
                see(Seen.of("input", name, value))
        if self._hooks:  # a later micro-step
            return
        for name, weight in self._task.named_parameters():
            see(Seen.of("weight", name, weight))
            if weight.requires_grad:
                self._hooks.append(
                    weight.register_post_accumulate_grad_hook(self._gradient(name))  # type: ignore[no-untyped-call]
                )
        for name, module in self._task.named_modules():
            self._hooks.append(module.register_forward_hook(self._output(name)))

    def after_backward(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """End the run after the step, or at one before it that is not finite.

        Raises:
            Finished: the step is done.
        """
        if step == self._step:
            raise Finished
        if not bool(loss.isfinite() & norm.isfinite()):
            self.found = Replay(
                step, [Seen.of("loss", "loss", loss), Seen.of("gradient", "", norm)]
            )
            raise Finished

    def on_row(self, step: int, row: dict[str, float]) -> None:
        """Nothing: the rows were judged when the run was alive."""

    def let_go(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _output(self, name: str) -> Callable[..., None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            for number, tensor in enumerate(_tensors(output)):
                kind = "loss" if not name and not number else "output"
                label = name or ("loss" if not number else "logged")
                self.found.seen.append(Seen.of(kind, label, tensor))

        return look

    def _gradient(self, name: str) -> Callable[[Tensor], None]:
        def look(weight: Tensor) -> None:
            if weight.grad is not None:
                self.found.seen.append(Seen.of("gradient", name, weight.grad))

        return look


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts: Sequence[Any] = ()
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = value
    return [tensor for part in parts for tensor in _tensors(part)]
