"""``medssl ingest``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medssl.imports import importing

if TYPE_CHECKING:
    from medssl.ingest.account import IngestSummary

In = Annotated[Path, typer.Argument(metavar="IN", help="Folder of scans, or one file.")]
StoreFolder = Annotated[Path, typer.Argument(metavar="STORE", help="Folder to make.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="Site key; STORE.private/site.key by default, made where missing."),
]
LabelNames = Annotated[
    list[str] | None,
    typer.Option(help="Name of a label value, as VALUE=NAME; may be given several times."),
]
Modality = Annotated[
    str, typer.Option(help="DICOM code for files that state none: CT, MR, ... (OT: other).")
]
ClassFolders = Annotated[
    bool, typer.Option("--class-folders", help="Take a picture's folder for its class.")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="CODE", help="Accept a defect by its code; may be given several times."),
]
Site = Annotated[
    str | None, typer.Option(help="Name of the site, not a pseudonym of the institution.")
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHAT", help="Keep the patient's age or sex as a label; may be given twice."
    ),
]
Structures = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Of DICOM SEG and RTSTRUCT take this structure alone; may be given several times.",
    ),
]
Deface = Annotated[
    bool, typer.Option("--deface", help="Remove faces from heads; reject where that is not sure.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that read; by default one a core, up to 4.")
]
Add = Annotated[bool, typer.Option("--add", help="Add what is new to the store, if there is one.")]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Read on the workers of this Dask scheduler.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def ingest(
    input_path: In,
    store: StoreFolder,
    key_file: KeyFile = None,
    label_name: LabelNames = None,
    modality: Modality = "OT",
    class_folders: ClassFolders = False,
    allow: Allow = None,
    site: Site = None,
    keep: Keep = None,
    structure: Structures = None,
    deface: Deface = False,
    workers: Workers = None,
    add: Add = False,
    scheduler: Scheduler = None,
    as_json: Json = False,
) -> None:
    """Read DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF or MedMNIST files into a store.

    Loose files, BIDS trees, and zip or tar archives of them.

    Every file ends in the ledger: used, duplicate, rejected with a reason, or ignored. Identifiers
    become pseudonyms; the key and a ledger with the real file names stay in STORE.private. The page
    STORE/ingest.html shows the files, the data and the volumes. Ends with 0, with 3 where inputs
    were rejected, with 4 where nothing was usable. An ingest that was interrupted goes on where it
    was when it is started again.

    \b
    Example:
      medssl ingest scans/ store/
      medssl ingest hippocampus/ store/ --modality MR --label-name 1=anterior
      medssl ingest scans/ store/ --allow SLICES_FEWER_THAN_STATED
      medssl ingest scans/ store/ --add
      medssl ingest planning/ store/ --structure Liver --structure Spleen
      medssl ingest heads/ store/ --deface --site north --keep age
    """
    # Threads for linear algebra would take the cores that the workers need; numpy starts them when
    # it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with importing():
        from medssl.ingest.run import ingest as run

    names = dict(_label_name(text) for text in label_name) if label_name else None
    try:
        summary = run(
            input_path,
            store,
            key_file=key_file,
            label_names=names,
            modality=modality,
            class_folders=class_folders,
            allow=allow or (),
            structures=structure or (),
            site=site or "",
            keep=keep or (),
            deface=deface,
            workers=workers or min(4, os.cpu_count() or 1),
            add=add,
            scheduler=scheduler,
        )
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on from here.", err=True)
        raise
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

    from medssl.cli.common import files_table
    from medssl.store import PAGE_NAME

    console = Console()
    console.print(files_table(summary.counts, summary.known))
    new = f", {summary.added:,} of them new" if summary.added < summary.volumes else ""
    volumes, subjects = f"{summary.volumes:,} volumes", f"{summary.subjects:,} subjects"
    console.print(f"{volumes} of {subjects} in the store{new}.")
    for note in summary.notes:
        console.print(f"Note: {note}", markup=False)
    if summary.store is not None and (summary.store / PAGE_NAME).is_file():
        typer.echo(f"To look at it: {summary.store / PAGE_NAME}")
