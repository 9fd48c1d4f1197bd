"""Checkpoints without pickle: tensors in safetensors, numbers in JSON, each written whole.

A checkpoint is a folder ``step-00000100`` that appears by one rename. The newest two are kept, so
the last good one always opens.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from medssl.errors import MedsslError
from medssl.store.arrays import file_hash

KEPT = 2


def save(
    folder: Path, step: int, module: nn.Module, optimiser: Optimizer, extra: dict[str, Any]
) -> Path:
    """Write the checkpoint of ``step`` (steps done) and drop all but the newest two."""
    final = folder / f"step-{step:08d}"
    work = folder / f".partial-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    tensors |= _optimiser_tensors(optimiser)
    save_file(
        {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, work / "state.safetensors"
    )
    record = {"step": step, "sha256": file_hash(work / "state.safetensors"), "extra": extra}
    (work / "state.json").write_text(json.dumps(record), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    work.rename(final)
    for old in _found(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest(
    folder: Path, module: nn.Module, optimiser: Optimizer
) -> tuple[int, dict[str, Any]]:
    """Restore the newest intact checkpoint; returns (steps done, extra).

    Raises:
        MedsslError: CHECKPOINT_CORRUPT where none is intact.
    """
    for path in reversed(_found(folder)):
        record = _record(path)
        if record is None:
            continue
        tensors = load_file(path / "state.safetensors")
        module.load_state_dict(
            {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
        )
        _restore_optimiser(optimiser, tensors)
        return int(record["step"]), dict(record["extra"])
    raise MedsslError(
        "CHECKPOINT_CORRUPT",
        "There is no intact checkpoint to resume from",
        where=folder.parent.name,
        fix="Start again without --resume, into another folder.",
    )


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _record(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        intact = record["sha256"] == file_hash(path / "state.safetensors")
    except (OSError, ValueError, KeyError):
        return None
    return record if intact else None


def _optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Tensor]] = optimiser.state_dict()["state"]
    return {
        f"optimiser.{index}.{name}": value
        for index, entries in state.items()
        for name, value in entries.items()
    }


def _restore_optimiser(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    # Groups (learning rate, weight decay) come from the configuration; only the state is restored.
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
