"""``medssl inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

Outcome = Literal["used", "duplicate", "rejected", "ignored"]

if TYPE_CHECKING:
    import pandas as pd

    from medssl.store.describe import Description


def inspect(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store made by ingest.")],
    volumes: Annotated[bool, typer.Option("--volumes", help="List the volumes.")] = False,
    files: Annotated[bool, typer.Option("--files", help="List the files of the ledger.")] = False,
    modality: Annotated[
        str | None, typer.Option(help="List the volumes of this modality, such as CT.")
    ] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="List the files of this outcome.")] = None,
    code: Annotated[str | None, typer.Option(help="List the files with this code.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show what is in a store, and what became of the files.

    Everything shown is pseudonymous; the real paths are in STORE.private/ledger.csv.

    \b
    Example:
      medssl inspect store/
      medssl inspect store/ --outcome rejected
      medssl inspect store/ --modality CT
    """
    from medssl.store import Store
    from medssl.store.describe import describe, list_files, list_volumes

    want_volumes, want_files = volumes or modality, files or outcome or code
    if want_volumes and want_files:
        raise typer.BadParameter("list the volumes or the files, not both")
    opened = Store.open(store)
    if want_volumes:
        return _print(list_volumes(opened, modality), as_json)
    if want_files:
        return _print(list_files(opened, outcome, code), as_json)
    found = describe(opened)
    if as_json:
        import json

        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        _show(found)


def _print(rows: pd.DataFrame, as_json: bool) -> None:
    if as_json:
        typer.echo(rows.to_json(orient="records", indent=2))
        return
    typer.echo("\t".join(rows.columns))
    for row in rows.itertuples(index=False):
        typer.echo("\t".join(_cell(value) for value in row))


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    if hasattr(value, "__iter__"):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return str(value)


def _show(found: Description) -> None:
    from rich.console import Console
    from rich.table import Table

    from medssl.errors import CODES

    groups = Table(title=f"{found.volumes} volumes, {found.subjects} subjects")
    for column in ("modality", "volumes", "subjects", "labelled", "parts"):
        groups.add_column(column, justify="left" if column == "modality" else "right")
    for column in ("shape, voxels", "spacing, mm", "intensity"):
        groups.add_column(column)
    for group in found.groups:
        counts = (group.volumes, group.subjects, group.labelled, group.parts)
        groups.add_row(
            f"{group.modality} {group.dims}D",
            *map(str, counts),
            " x ".join(map(_range, group.shape)),
            " x ".join(map(_range, group.spacing)),
            f"{group.intensity[0]:g} to {group.intensity[1]:g}",
        )
    files = Table(title="What became of the files")
    for column in ("outcome", "code", "files", "meaning"):
        files.add_column(column, justify="right" if column == "files" else "left")
    for outcome, codes in found.files.items():
        for code, count in codes.items():
            meaning = CODES[code].meaning if code in CODES else ""
            files.add_row(outcome, code, str(count), meaning)
    console = Console()
    console.print(groups)
    console.print(files)
    for name, counted in (("Splits", found.splits), ("Accepted defects", found.defects)):
        listed = ", ".join(f"{key or 'none'} {count}" for key, count in counted.items())
        if listed:
            console.print(f"{name}: {listed}", markup=False)
    console.print(
        f"{found.studies} studies, {found.series} series; fingerprint {found.fingerprint[:12]}"
    )


def _range(axis: list[float]) -> str:
    low, _, high = axis
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"
