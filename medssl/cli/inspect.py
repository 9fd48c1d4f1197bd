"""``medssl inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medssl.errors import MedsslError

Outcome = Literal["used", "duplicate", "rejected", "ignored"]

if TYPE_CHECKING:
    import pandas as pd

    from medssl.store import Store
    from medssl.store.describe import Description


def inspect(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store made by ingest.")],
    volumes: Annotated[bool, typer.Option("--volumes", help="List the volumes.")] = False,
    files: Annotated[bool, typer.Option("--files", help="List the files of the ledger.")] = False,
    modality: Annotated[
        str | None, typer.Option(help="List the volumes of this modality, such as CT.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="List the volumes of this subject, by its pseudonym's start.")
    ] = None,
    defect: Annotated[
        str | None, typer.Option(metavar="CODE", help="List the volumes with this accepted defect.")
    ] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="List the files of this outcome.")] = None,
    code: Annotated[str | None, typer.Option(help="List the files with this code.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with pictures of the volumes chosen."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show what is in a store, and what became of the files.

    Everything shown is pseudonymous; the real paths are in STORE.private/ledger.csv.

    \b
    Example:
      medssl inspect store/
      medssl inspect store/ --outcome rejected
      medssl inspect store/ --modality CT
      medssl inspect store/ --modality MR --html mr.html
    """
    from medssl.store import Store
    from medssl.store.describe import choose_volumes, describe, list_files, list_volumes

    want_volumes, want_files = volumes or modality or subject or defect, files or outcome or code
    if (want_volumes or html) and want_files:
        raise typer.BadParameter("choose volumes or files, not both")
    opened = Store.open(store)
    chosen = choose_volumes(opened.manifest, modality=modality, subject=subject, defect=defect)
    if html is not None:
        return _write_page(opened, html, chosen)
    if want_volumes:
        return _print(list_volumes(chosen), as_json)
    if want_files:
        return _print(list_files(opened, outcome, code), as_json)
    found = describe(opened)
    if as_json:
        import json

        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        _show(found)


def _write_page(store: Store, out: Path, rows: pd.DataFrame) -> None:
    from medssl.ingest.report import write_report

    if out.exists():
        raise MedsslError("OUT_EXISTS", "The page is already there", where="--html")
    if not out.absolute().parent.is_dir():
        raise MedsslError("INPUT_MISSING", "The page's folder does not exist", where="--html")
    if rows.empty:
        raise MedsslError("NOTHING_USABLE", "No volume of the store is like that", where="--html")
    write_report(store, out, only=rows["volume_id"])
    typer.echo(f"{len(rows):,} volumes: {out}")


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
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from medssl.cli.common import files_table

    console = Console()
    counted = Table(
        title=f"{found.volumes:,} volumes, {found.subjects:,} subjects",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    measured = Table(box=SIMPLE_HEAD)
    counted.add_column("modality")
    for column in ("volumes", "subjects", "labelled", "parts"):
        counted.add_column(column, justify="right")
    for column in ("modality", "voxels", "mm", "intensity"):
        measured.add_column(column)
    for group in found.groups:
        name = f"{group.modality} {group.dims}D"
        numbers = (group.volumes, group.subjects, group.labelled, group.parts)
        counted.add_row(name, *(f"{number:,}" for number in numbers))
        measured.add_row(
            name,
            " x ".join(map(_range, group.shape)),
            " x ".join(map(_range, group.spacing)),
            f"{group.intensity[0]:.4g} to {group.intensity[1]:.4g}",
        )
    console.print(counted)
    console.print(measured)
    counts = {(o, c): n for o, codes in found.files.items() for c, n in codes.items()}
    console.print(files_table(counts))
    for title, volumes in (("Splits", found.splits), ("Accepted defects", found.defects)):
        listed = ", ".join(f"{key or 'none'} {count:,}" for key, count in volumes.items())
        if listed:
            console.print(f"{title}: {listed}", markup=False)
    console.print(
        f"{found.studies} studies, {found.series} series; fingerprint {found.fingerprint[:12]}"
    )


def _range(axis: list[float]) -> str:
    low, _, high = axis
    return f"{low:.4g}" if low == high else f"{low:.3g}-{high:.3g}"
