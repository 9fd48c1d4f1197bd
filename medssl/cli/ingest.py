"""``medssl ingest``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medssl.ingest.account import IngestSummary


def ingest(
    input_path: Annotated[Path, typer.Argument(metavar="IN", help="Folder of scans, or one file.")],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder to make.")],
    key_file: Annotated[
        Path | None,
        typer.Option(help="Site key; STORE.private/site.key by default, made where missing."),
    ] = None,
    label_name: Annotated[
        list[str] | None,
        typer.Option(help="Name of a label value, as VALUE=NAME; may be given several times."),
    ] = None,
    modality: Annotated[
        str, typer.Option(help="DICOM code for files that state none: CT, MR, ... (OT: other).")
    ] = "OT",
    class_folders: Annotated[
        bool, typer.Option("--class-folders", help="Take a PNG's folder for its class.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE", help="Accept a defect by its code; may be given several times."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Series read at once; by default one a core, up to 4."),
    ] = None,
    deface: Annotated[
        bool,
        typer.Option("--deface", help="Remove faces from heads; reject where that is not sure."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Read DICOM, NIfTI, PNG or MedMNIST files into a new store.

    Every file ends in the ledger: used, duplicate, rejected with a reason, or ignored. Identifiers
    become pseudonyms; the key and a ledger with the real file names stay in STORE.private. Ends
    with 0, with 3 where inputs were rejected, with 4 where nothing was usable.

    \b
    Example:
      medssl ingest scans/ store/
      medssl ingest hippocampus/ store/ --modality MR --label-name 1=anterior
      medssl ingest scans/ store/ --allow SLICES_FEWER_THAN_STATED
    """
    from medssl.ingest.run import ingest as run

    names = dict(_label_name(text) for text in label_name) if label_name else None
    summary = run(
        input_path,
        store,
        key_file=key_file,
        label_names=names,
        modality=modality,
        class_folders=class_folders,
        allow=allow or (),
        deface=deface,
        workers=workers or min(4, os.cpu_count() or 1),
    )
    if as_json:
        import json

        typer.echo(json.dumps(summary.as_json(), indent=2))
    else:
        _show(summary)
    raise typer.Exit(int(summary.exit_code))


def _label_name(text: str) -> tuple[int, str]:
    value, equals, name = text.partition("=")
    if not equals or not value.strip().isdigit() or not name.strip():
        raise typer.BadParameter("write VALUE=NAME, such as 1=anterior", param_hint="--label-name")
    return int(value), name.strip()


def _show(summary: IngestSummary) -> None:
    from rich.console import Console
    from rich.table import Table

    from medssl.errors import CODES

    table = Table(title=f"{summary.found} files")
    table.add_column("outcome")
    table.add_column("code", no_wrap=True)
    table.add_column("files", justify="right")
    table.add_column("meaning")
    for (outcome, code), count in summary.counts.items():
        meaning = CODES[code].meaning if code else ""
        table.add_row(outcome, code, str(count), meaning)
    console = Console()
    console.print(table)
    console.print(f"{summary.volumes} volumes of {summary.subjects} subjects in the store.")
    for note in summary.notes:
        console.print(f"Note: {note}", markup=False)
