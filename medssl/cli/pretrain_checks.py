"""What ``medssl pretrain`` prints of a dry run, and of a step run again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from medssl.training.dry_run import DryRun
    from medssl.training.pretrain import PretrainConfig
    from medssl.training.replay import Seen

LIMITS = {
    "disk": "reading the volumes from the disk",
    "workers": "reading crops: too few processes do it",
    "views": "making views",
    "model": "the model itself: forward, backward and optimiser",
}
AROUND = 6  # tensors shown before and after the first that is not finite


def show_dry_run(store: Path, settings: PretrainConfig, as_json: bool) -> None:
    """Measure, and print."""
    from rich.console import Console

    from medssl.training.dry_run import dry_run

    found = dry_run(store, settings)
    if as_json:
        typer.echo(json.dumps(found.values()))
        return
    console = Console()
    console.print(_costs(found), _stages(found, settings.workers))
    console.print(f"What limits it: {LIMITS[found.limit]}.", highlight=False)
    lines = [f"  - {line}" for line in found.advice] or ["  - Nothing: this uses the machine well."]
    console.print("What to change:", *lines, sep="\n", highlight=False)


def _costs(found: DryRun) -> Table:
    table = _table("The run on this machine")
    table.add_row("device", found.device)
    table.add_row(
        "length", f"{found.steps:,} steps of {found.batch_size} samples: {_duration(found.hours)}"
    )
    table.add_row(
        "speed",
        f"{_number(found.samples_per_second)} samples a second, "
        f"{found.data_fraction:.0%} of the time waiting for data",
    )
    table.add_row("memory", f"{_size(found.host_peak)}; {_size(found.host_free)} more are free")
    if found.device_total:
        table.add_row("device memory", f"{_size(found.device_peak)} of {_size(found.device_total)}")
    table.add_row("volumes", f"{found.volumes:,}, {_size(found.store_bytes)} in the store")
    table.add_row("cache", found.cache)
    table.add_row("checkpoints", f"two of {_size(found.checkpoint_bytes)}")
    return table


def _stages(found: DryRun, workers: int) -> Table:
    names = {
        "first_read": "read crops, first time (disk)",
        "read": "read crops, again (memory)",
        "handed": f"crops from {workers} worker{'s' * (workers > 1)}" if workers else "",
        "views": "make views",
        "gradients": "forward and backward",
        "optimiser": "optimiser",
    }
    table = _table("Each stage alone, in samples a second")
    for key, name in names.items():
        if name:
            table.add_row(name, _number(found.stages[key]))
    return table


def show_replay(store: Path, out: Path, as_json: bool) -> None:
    """Run the kept step again, and print its tensors around the first that is not finite."""
    from rich.console import Console

    from medssl.training.replay_run import replay_run

    found = replay_run(store, out)
    first = found.first_bad
    if as_json:
        tensors = [vars(tensor) for tensor in found.seen]
        typer.echo(json.dumps({"step": found.step, "first_bad": first, "tensors": tensors}))
        return
    console = Console()
    console.print(_tensors(found.seen, first, found.step))
    if first is None:
        console.print(f"All {len(found.seen)} tensors of step {found.step} are finite.")
        return
    tensor = found.seen[first]
    console.print(
        f"First not finite in step {found.step}: the {tensor.kind} {tensor.name}.", highlight=False
    )


def _tensors(seen: Sequence[Seen], first: int | None, step: int) -> Table:
    start = max(0, (first or 0) - AROUND)
    table = _table(f"Tensors of step {step}", "tensor", "", "shape", "largest", "finite")
    for number, tensor in enumerate(seen[start : start + 2 * AROUND + 1], start=start):
        table.add_row(
            tensor.kind,
            tensor.name,
            "x".join(map(str, tensor.shape)) or "1",
            f"{tensor.largest:.3g}",
            "yes" if tensor.finite else "no",
            style="bold red" if number == first else None,
        )
    return table


def _table(title: str, *columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, show_header=bool(columns), min_width=50
    )
    for column in columns:
        table.add_column(column, justify="right" if column == "largest" else "left")
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"


def _duration(hours: float) -> str:
    if hours >= 48:
        return f"about {hours / 24:.0f} days"
    if hours >= 1:
        return f"about {hours:.1f} hours"
    return f"about {max(1, round(hours * 60))} minutes"
