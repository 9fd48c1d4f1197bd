"""A dry run: what a pretraining run will cost on this machine, measured in half a minute.

Each stage is measured alone, then all together in the loop itself. Nothing is left behind.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from medssl import tracking
from medssl.store import Store
from medssl.store.intensity import IntensityContract
from medssl.training.cache_plan import cache_plan
from medssl.training.data import loader
from medssl.training.loop import fit
from medssl.training.mixed import by_dims
from medssl.training.prepare import Prepared, prepare, sized
from medssl.training.pretrain import PretrainConfig, resolve
from medssl.training.pretrain_task import crops_of
from medssl.training.system import cores, memory_free, memory_peak
from medssl.training.trial import Trial

SECONDS = 30.0
_COMPUTING = ("views", "gradients", "optimiser")


@dataclass
class DryRun:
    """What was measured. Memory and sizes in bytes, speeds in samples a second.

    ``stages`` holds the speed of each stage alone: ``first_read`` (crops from the disk) and
    ``read`` (again, from memory), both by one process; ``handed`` by ``workers`` processes;
    ``views``; ``gradients`` (forward and backward); ``optimiser``. ``limit`` is the stage that a
    faster run would need faster: disk, workers, views or model.
    """

    steps: int
    batch_size: int
    volumes: int
    store_bytes: int
    cache: str
    device: str
    samples_per_second: float
    data_fraction: float
    hours: float
    host_peak: int
    host_free: int
    device_peak: int
    device_total: int
    checkpoint_bytes: int
    stages: dict[str, float]
    limit: str
    advice: list[str] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def dry_run(store_path: Path, config: PretrainConfig, seconds: float | None = None) -> DryRun:
    """Measure a run of this configuration without doing it.

    Args:
        store_path: the store.
        config: as for :func:`medssl.training.pretrain.pretrain`.
        seconds: about how long to measure, None for half a minute; longer where a step alone takes
            seconds.

    Raises:
        MedsslError: what :func:`pretrain` raises before its first step, and OUT_OF_MEMORY.
    """
    seconds = SECONDS if seconds is None else seconds
    with tempfile.TemporaryDirectory(prefix="medssl-dry-run-") as work:
        # A cache lies beside the run, so that it goes with this folder.
        return _measured(Store.open(store_path), config, seconds, Path(work) / "run")


def _measured(store: Store, asked: PretrainConfig, seconds: float, out: Path) -> DryRun:
    config, volume_ids = resolve(store, asked)
    config = sized(store, config, volume_ids, out)
    paths = [store.path / str(store[v].row["array"]) for v in volume_ids]

    def fresh() -> Prepared:
        return prepare(store, config, volume_ids, out)

    stages = _reading(fresh(), config, paths, seconds / 6)
    trial = Trial(fresh().task, config)
    trial.forget_peak()
    stages |= _computing(trial, fresh(), config, seconds / 12)
    step = config.batch_size * sum(1 / stages[name] for name in _COMPUTING)
    count = max(2, min(config.steps, round(seconds / 3 / step)))
    speed, saved = _together(fresh(), config, count, out)
    rate, fraction = speed
    cuda = trial.device.type == "cuda"
    found = DryRun(
        steps=config.steps,
        batch_size=config.batch_size,
        volumes=len(paths),
        store_bytes=sum(path.stat().st_size for path in paths),
        cache=_cache(store, config, asked, volume_ids),
        device=torch.cuda.get_device_name(trial.device) if cuda else f"CPU, {cores()} cores",
        samples_per_second=rate,
        data_fraction=fraction,
        hours=config.steps * config.batch_size / rate / 3600,
        host_peak=memory_peak(),
        host_free=memory_free(),
        device_peak=trial.peak() if cuda else 0,
        device_total=torch.cuda.mem_get_info(trial.device)[1] if cuda else 0,
        checkpoint_bytes=saved,
        stages=stages,
        limit="",
    )
    found.limit = limit(found, config.workers)
    found.advice = advice(found, config)
    return found


def limit(found: DryRun, workers: int) -> str:
    """What a faster run would need faster: disk, workers, views or model."""
    stages = found.stages
    cold = found.store_bytes > found.host_free
    supply = min(stages["handed"], stages["first_read"] * max(1, workers) if cold else math.inf)
    views, model = 1 / stages["views"], 1 / stages["gradients"] + 1 / stages["optimiser"]
    # Without workers a step waits for its crops, so that times add up; with them the slower rules.
    reading = 1 / supply
    if workers == 0:
        most = max(reading, views, model)
    else:
        most = reading if reading > views + model else max(views, model)
    if most == reading:
        return "disk" if cold and supply < stages["handed"] else "workers"
    return "views" if most == views else "model"


def advice(found: DryRun, config: PretrainConfig) -> list[str]:
    """What to change, in options and their values; empty where nothing is worth it."""
    stages, said = found.stages, []
    cuda = found.device_total > 0
    wanted = 1 / sum(1 / stages[name] for name in _COMPUTING)
    needed = math.ceil(1.2 * wanted / stages["read"])
    spare = cores() if cuda else cores() - 1
    if found.limit == "disk":
        said.append(
            "The volumes are larger than the free memory, so that each epoch reads them from the "
            "disk again: put the store on a local SSD."
        )
    elif found.data_fraction > 0.05 or found.limit == "workers":
        count = min(max(needed, 1), spare)
        if count > config.workers:
            said.append(f"workers={count}: crops are read while the model computes.")
        elif needed > spare:
            said.append(
                f"To feed this model takes {needed} workers, and there are {cores()} cores: a "
                "machine with more cores, or a larger encoder for the same time."
            )
    if found.limit == "views" and config.options.get("view"):
        slow = [key for key in ("blur", "noise") if config.options["view"].get(key)]
        if slow:
            settings = " ".join(f"options.view.{key}={_off(key)}" for key in slow)
            said.append(f"{settings}: views without their slowest steps, if the method allows.")
    if cuda and config.precision == "fp32":
        said.append("precision=bf16: this device computes it several times faster.")
    if cuda and found.device_peak < 0.5 * found.device_total:
        share = found.device_peak / found.device_total
        said.append(f"--batch-size auto: a step takes {share:.0%} of the device's memory.")
    if not cuda and found.hours > 24:
        said.append("A GPU; or a smaller patch_size, or fewer steps: on a CPU this takes days.")
    if found.host_peak > 0.8 * (found.host_peak + found.host_free):
        said.append("Memory is almost full: lower batch_size or patch_size.")
    return said


def _off(key: str) -> str:
    return "null" if key == "blur" else "0"


def _reading(
    prepared: Prepared, config: PretrainConfig, paths: Sequence[Path], budget: float
) -> dict[str, float]:
    """Samples a second read from the disk, from memory, and by worker processes."""
    size = min(config.batch_size, max(1, len(paths)))
    steps = max(2, min(len(paths) // size, 64))
    _forget(paths)
    first, seen = _rate(loader(prepared.source, size, 0, steps, 0), size, budget)
    # The same crops again: now they are in memory.
    again, _ = _rate(loader(prepared.source, size, 0, seen, 0), size, budget)
    handed = again
    if config.workers:
        many = loader(prepared.source, size, 0, 10_000, config.workers)
        handed, _ = _rate(many, size, budget, skipped=2 * config.workers)
    return {"first_read": first, "read": again, "handed": handed}


def _rate(batches: Iterable[Any], size: int, budget: float, skipped: int = 0) -> tuple[float, int]:
    """(samples a second, batches seen); the first ``skipped`` are what start-up brought."""
    supply, seen = iter(batches), 0
    for _ in range(skipped):
        next(supply)
    started = time.perf_counter()
    for _ in supply:
        seen += 1
        if time.perf_counter() - started > budget:
            break
    return seen * size / (time.perf_counter() - started), seen


def _computing(
    trial: Trial, prepared: Prepared, config: PretrainConfig, budget: float
) -> dict[str, float]:
    """Samples a second of views, of forward and backward without them, and of the optimiser."""
    batch = trial.moved(next(iter(loader(prepared.source, config.batch_size, 0, 1, 0))))
    method = prepared.task.method.to(trial.device)

    def views() -> None:
        with torch.no_grad():
            method.views(crops_of(batch))  # type: ignore[arg-type]

    def timed(work: Callable[[], object]) -> float:
        return trial.seconds(work, budget)

    seconds = {"views": timed(views), "gradients": timed(lambda: trial.gradients(batch))}
    seconds["optimiser"] = timed(trial.update)
    # Views are part of the forward pass; what noise makes of a small difference is not negative.
    least = 0.05 * seconds["gradients"]
    seconds["gradients"] = max(least, seconds["gradients"] - seconds["views"])
    return {name: config.batch_size / value for name, value in seconds.items()}


def _together(
    prepared: Prepared, config: PretrainConfig, steps: int, out: Path
) -> tuple[tuple[float, float], int]:
    """((samples a second, share of waiting for data) of the loop itself, bytes of a checkpoint)."""
    short = config.model_copy(
        update={"steps": steps, "log_every": steps, "checkpoint_every": steps, "warmup": 0.0}
    )
    out.mkdir()
    with tracking.run("", "", out, silent=True) as run:
        history = fit(prepared.task, prepared.source, short, out, run, description="dry run")
    saved = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    # The first step is a row of its own: it pays for what is set up once.
    last = history.speed[-1]
    return (last["samples_per_second"], last["data_fraction"]), saved


def _cache(
    store: Store, config: PretrainConfig, asked: PretrainConfig, volume_ids: Sequence[str]
) -> str:
    """Which cache the run will keep, how large, and why."""
    if config.dims == "both":
        volume_ids = by_dims(store, volume_ids, config.flat)[0]  # 2D images have no cache
    plan = cache_plan(
        store,
        volume_ids,
        config.patch_size or [],
        config.intensity or IntensityContract(),
        spacing=config.spacing,
        plane=config.plane,
        dtype=config.dtype,
        cache=asked.cache,
    )
    size = "none" if plan.choice == "off" else f"{plan.choice}, {plan.bytes / 2**30:.1f} GiB"
    return f"{size}. {plan.reason}"


def _forget(paths: Sequence[Path]) -> None:
    """Ask the system to drop these files from its cache, so that the next reading is a first."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
