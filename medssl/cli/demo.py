"""``medssl demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="A short run that only shows that every stage works.")
    ] = False,
) -> None:
    """See the whole path on synthetic patients: ingest, pretrain, fine-tune, predict, evaluate.

    Offline, a few minutes on two cores. Open OUT/report.html at the end.

    \b
    Example:
      medssl demo demo-out
      medssl demo demo-out --quick
    """
    from rich.console import Console

    from medssl.demo.run import demo as run

    console = Console()
    summary = run(out, quick=quick, say=lambda stage: console.print(f"[bold]{stage}[/bold]"))
    minutes, seconds = divmod(round(summary.seconds), 60)
    console.print(
        f"\nDone in {minutes} min {seconds} s. Mean Dice on held-out patients: "
        f"{summary.dice['scratch']:.3f} from scratch, {summary.dice['pretrained']:.3f} pretrained."
    )
    console.print("\nThe report:")
    typer.echo(f"  {summary.report}")
    for line, what in summary.commands:
        console.print(f"{what}:")
        typer.echo(f"  {line}")
