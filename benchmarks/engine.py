"""What the training loop costs over a bare one, and what two processes on the CPU give.

A method is trained on one batch held in memory: by a plain torch loop (forward, backward, clipping,
AdamW) and by `medssl.training.loop.fit`, which logs, reports to MLflow and writes checkpoints
besides. The two alternate step by step, so that a busy machine slows both; the ratio is the result.

    python benchmarks/engine.py
    python benchmarks/engine.py --processes
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.optim import AdamW

from medssl import tracking
from medssl.methods import METHODS, Samples
from medssl.networks import build_encoder
from medssl.training.loop import LoopConfig, fit
from medssl.training.pretrain_task import PretrainTask
from medssl.views.draw import sample_key

WARMUP = 3


@dataclass
class Timed:
    """Seconds of each step."""

    bare: list[float] = field(default_factory=list)
    fit: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """A model, its input, and how many steps are timed at a time."""

    name: str
    encoder: str
    options: dict[str, Any]
    size: tuple[int, ...]
    batch: int
    steps: int


CASES = (
    Case("tiny: U-Net 8-16, 16 x 16", "unet", {"widths": (8, 16)}, (16, 16), 4, 200),
    Case(
        "medium: ViT 192 x 6, 32^3",
        "vit",
        {"patch_size": 8, "embed_dim": 192, "depth": 6},
        (32, 32, 32),
        4,
        30,
    ),
)


def task_of(case: Case) -> PretrainTask:
    """The method, the same every time."""
    torch.manual_seed(0)
    dims = len(case.size)
    encoder = build_encoder(case.encoder, dims, 1, **case.options)
    kind = METHODS["mae"]
    return PretrainTask(kind(kind.Config(), encoder, Samples(case.size)))


def batch_of(case: Case, rows: int) -> dict[str, torch.Tensor]:
    """One batch of noise."""
    dims = len(case.size)
    return {
        "image": torch.randn(rows, 1, *case.size),
        "label": torch.zeros(rows, 1, *case.size, dtype=torch.int64),
        "target": torch.zeros(rows, dtype=torch.int64),
        "normalisation": torch.tensor([[-9.0, 9.0, 0.0, 1.0]]).repeat(rows, 1),
        "spacing": torch.ones(rows, dims),
        "key": torch.tensor([sample_key(0, 0, n) for n in range(rows)]),
        "volume": torch.arange(rows),
        "subject": torch.arange(rows),
        "place": torch.eye(dims, dims + 1).repeat(rows, 1, 1),
        "extent": torch.tensor(case.size, dtype=torch.float32).repeat(rows, 1),
    }


class Bare:
    """A plain loop on its own copy of the task."""

    def __init__(self, case: Case) -> None:
        self.task, self.batch = task_of(case), batch_of(case, case.batch)
        self.optimiser = AdamW(self.task.parameters(), lr=1e-4, fused=True)

    def step(self) -> None:
        """Forward, backward, clip, update."""
        loss, _ = self.task(self.batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.task.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def engine(case: Case, folder: Path, run: tracking.Run, bare: Bare | None) -> Timed:
    """Train with `fit`; where there is a bare loop, the two alternate step by step."""
    timed = Timed()

    def batches(
        source: Any, size: int, first: int, steps: int, workers: int, **shares: int
    ) -> Iterator[Any]:
        batch = batch_of(case, size // shares.get("world", 1))
        for _ in range(first, steps):
            if bare is not None:
                began = time.perf_counter()
                bare.step()
                timed.bare.append(time.perf_counter() - began)
            began = time.perf_counter()
            yield batch
            # The loop is back for the next batch: this was one step of it.
            timed.fit.append(time.perf_counter() - began)

    config = LoopConfig(
        steps=case.steps, batch_size=case.batch, lr=1e-4, device="cpu", checkpoint_every=1_000_000
    )
    fit(task_of(case), None, config, folder, run, batches=batches)
    return timed


def compare(case: Case, rounds: int) -> None:
    """Print both speeds and the ratio of all the time spent, warm-up steps left out."""
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tracking.run("benchmark", "engine", folder) as run:
            for _ in range(rounds):
                timed = engine(case, folder, run, Bare(case))
                pairs = list(zip(timed.bare, timed.fit, strict=False))[WARMUP:]
                plain += [pair[0] for pair in pairs]
                ours += [pair[1] for pair in pairs]
    first, second = (1e3 * statistics.median(times) for times in (plain, ours))
    whole = sum(ours) / sum(plain)
    print(
        f"| {case.name} | {first:.2f} | {second:.2f} | {second / first:.3f} | {whole:.3f} |",
        flush=True,
    )


def processes(case: Case) -> None:
    """Print the speed of one process and of two, each on one core, at the same batch."""
    speeds = []
    for count in (1, 2):
        command = [sys.executable, __file__, "--worker", case.name]
        if count > 1:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
            command = [sys.executable, *launcher, *command[1:]]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = [line for line in ran.stdout.splitlines() if line.startswith("speed ")]
        speeds.append(max(float(line.split()[1]) for line in lines))
    one, two = speeds
    print(f"| {case.name} | {one:.2f} | {two:.2f} | {two / one:.2f} |")


def worker(name: str) -> None:
    """Train in this process, one of those that were started."""
    case = next(case for case in CASES if case.name == name)
    with (
        tempfile.TemporaryDirectory() as folder,
        tracking.run("benchmark", "engine", Path(folder), silent=True) as run,
    ):
        seconds = engine(case, Path(folder), run, None).fit[WARMUP:]
        print("speed", 1 / statistics.median(seconds))


def main(
    rounds: Annotated[int, typer.Option(help="Runs of each model.")] = 3,
    both: Annotated[bool, typer.Option("--processes", help="One process against two.")] = False,
    only: Annotated[str, typer.Option(help="Models whose name begins so.")] = "",
    of: Annotated[str, typer.Option("--worker", hidden=True)] = "",
) -> None:
    """Print the tables of docs/performance.md, section Engine."""
    torch.set_num_threads(1)
    chosen = [case for case in CASES if case.name.startswith(only)]
    if of:
        worker(of)
    elif both:
        print("| model | 1 process, steps/s | 2 processes, steps/s | ratio |\n|---|---|---|---|")
        for case in chosen:
            processes(case)
    else:
        print("| model | bare, ms | fit, ms | ratio of medians | ratio of sums |")
        print("|---|---|---|---|---|")
        for case in chosen:
            compare(case, rounds)


if __name__ == "__main__":
    typer.run(main)
