"""Checkpoints without pickle: tensors in safetensors, numbers in JSON, each written whole.

A checkpoint is a folder ``step-00000100`` that appears by one rename, after its bytes have reached
the disk. The newest two are kept, so the last good one always opens.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from medssl.errors import MedsslError
from medssl.store.arrays import file_hash
from medssl.training.sharding import sharded_like, whole

KEPT = 2
Usable = Callable[[int, dict[str, Any]], bool]


class CheckpointWriter:
    """Writes checkpoints while training goes on: the state is copied, a thread writes the copy.

    A context manager; closing it waits for the last write. What a write raises is raised by the
    next call, or by closing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[Path] | None = None

    def save(
        self,
        step: int,
        module: nn.Module,
        optimiser: Optimizer,
        extra: dict[str, Any],
        branch: str = "",
        leads: bool = True,
    ) -> None:
        """Write the checkpoint of ``step``; it is the state of now, whatever happens after.

        Of a sharded module every process calls this, and the one that ``leads`` writes the whole.
        """
        self.wait()
        tensors = _copied(_tensors(module, optimiser), leads)
        if not leads:
            return
        folder = self.folder / branch if branch else self.folder
        record = json.dumps(extra)
        self._last = self._pool.submit(_write, folder, step, tensors, record)

    def wait(self) -> None:
        """Until what was saved is on the disk."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self.wait()


def save(
    folder: Path, step: int, module: nn.Module, optimiser: Optimizer, extra: dict[str, Any]
) -> Path:
    """Write the checkpoint of ``step`` (steps done) and drop all but the newest two.

    Raises:
        MedsslError: DISK_FULL.
    """
    return _write(folder, step, _copied(_tensors(module, optimiser)), json.dumps(extra))


def load_newest(
    folder: Path,
    module: nn.Module,
    optimiser: Optimizer | None = None,
    usable: Usable | None = None,
) -> tuple[int, dict[str, Any]]:
    """Restore the newest intact checkpoint; returns (steps done, extra).

    Args:
        folder: where the checkpoints are.
        module: takes the weights.
        optimiser: takes its state; its groups stay as they are.
        usable: of (steps done, extra), which checkpoints may be taken; None for any.

    Raises:
        MedsslError: CHECKPOINT_CORRUPT where none is intact.
    """
    for path in reversed(_found(folder)):
        record = _record(path)
        if record is None or (usable and not usable(int(record["step"]), record["extra"])):
            continue
        tensors = load_file(path / "state.safetensors")
        _restore_module(module, tensors)
        if optimiser is not None:
            _restore_optimiser(optimiser, tensors)
        return int(record["step"]), dict(record["extra"])
    raise MedsslError(
        "CHECKPOINT_CORRUPT",
        "There is no intact checkpoint to resume from",
        where=folder.parent.name,
        fix="Start again without --resume, into another folder.",
    )


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps than ``step``."""
    for path in _found(folder):
        if path.parent == folder and int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path, ignore_errors=True)


def _found(folder: Path) -> list[Path]:
    """The folder's checkpoints and its branches', in order of their step."""
    return sorted([*folder.glob("step-*"), *folder.glob("*/step-*")], key=lambda path: path.name)


def _record(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        intact = record["sha256"] == file_hash(path / "state.safetensors")
    except (OSError, ValueError, KeyError):
        return None
    return record if intact else None


def _write(folder: Path, step: int, tensors: dict[str, Tensor], extra: str) -> Path:
    final = folder / f"step-{step:08d}"
    work = folder / f".partial-{os.getpid()}"
    try:
        for left in folder.glob(".partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        work.mkdir(parents=True)
        save_file(tensors, work / "state.safetensors")
        record = {"step": step, "sha256": file_hash(work / "state.safetensors")}
        text = json.dumps({**record, "extra": json.loads(extra)})
        (work / "state.json").write_text(text, encoding="utf-8")
        for path in (work / "state.safetensors", work / "state.json", work):
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
        _sync(folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise MedsslError(
            "DISK_FULL",
            "The disk is full; the checkpoint before is intact",
            where="checkpoints",
            fix="Make room, then go on with --resume.",
        ) from None
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _sync(path: Path) -> None:
    """Until the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tensors(module: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    state: dict[int, dict[str, Any]] = optimiser.state_dict()["state"]
    for index, entries in state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value
    return tensors


def _copied(tensors: dict[str, Tensor], kept: bool = True) -> dict[str, Tensor]:
    """Copies on the host that what follows does not change; where not ``kept``, the processes
    that keep them get this one's parts alone."""
    copies = {}
    for name, value in tensors.items():
        full = whole(value.detach())
        if kept:
            copies[name] = full.to("cpu", copy=True).contiguous()
    return copies


def _restore_module(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    own = module.state_dict()
    state = {
        (name := key.removeprefix("module.")): sharded_like(value, own.get(name, value))
        for key, value in tensors.items()
        if key.startswith("module.")
    }
    module.load_state_dict(state)


def _restore_optimiser(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            part = sharded_like(value, parameters[int(index)])
            state.setdefault(int(index), {})[name] = part
    # Groups (learning rate, weight decay) come from the configuration; only the state is restored.
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
