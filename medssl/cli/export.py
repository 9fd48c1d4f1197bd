"""``medssl export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store made by ingest.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    volume: Annotated[
        list[str] | None,
        typer.Option(help="Volume id; may be given several times. All volumes by default."),
    ] = None,
    original_grid: Annotated[
        bool,
        typer.Option(
            "--original-grid",
            help="Put volumes that ingest resampled (tilt, uneven spacing) back on their slices.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Write volumes and label maps of a store as NIfTI, on the grids they came from.

    What ingest had to resample is written as it is stored, unless --original-grid is given. OUT
    gets images/, labels/ and subjects.csv, and can be ingested again.

    \b
    Example:
      medssl export store/ nifti/
      medssl export store/ one/ --volume vol-0123456789abcdef
    """
    from dataclasses import asdict

    from medssl.store.export import export as run

    summary = asdict(run(store, out, volume_ids=volume, original_grid=original_grid))
    if as_json:
        import json

        typer.echo(json.dumps(summary, indent=2))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(title="Exported")
        for name in summary:
            table.add_column(name, justify="right")
        table.add_row(*map(str, summary.values()))
        Console().print(table)
