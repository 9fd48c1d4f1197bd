"""`medssl predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def predict(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle of a fine-tuned model.")
    ],
    in_path: Annotated[
        Path, typer.Argument(metavar="IN", help="A folder (or one file) of DICOM and NIfTI.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The results folder to make.")],
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="The site key that names DICOM cases; OUT.private/site.key if left out. Give the "
            "key of the store and a series has one name in both."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    keep_images: Annotated[
        bool, typer.Option(help="Copy each image into OUT, for the review app.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON, for machines.")
    ] = False,
) -> None:
    """Run a bundle over new studies: DICOM SEG and NIfTI out, with status.json.

    Every label map is read back from disk and compared with the prediction in patient
    millimetres before it is kept. Exit codes: 0 all done, 3 some cases rejected, 4 none usable,
    6 a written label map had moved.

    \b
    Example:
        medssl predict runs/segmentation/bundle studies/ results/
        medssl review results/
    """
    from medssl.predict.run import predict as run

    summary = run(bundle, in_path, out, key_file=key_file, device=device, keep_images=keep_images)
    if as_json:
        typer.echo(json.dumps(summary.as_dict(), indent=2))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"{summary.written} of {len(summary.cases)} cases predicted")
        for column in ("Case", "Outcome", "Code", "Detail"):
            table.add_column(column, overflow="fold")
        for case in summary.cases:
            table.add_row(case.case_id, case.outcome, case.code, case.detail)
        console = Console()
        console.print(table)
        console.print(f"{summary.ignored} other files ignored. Results: {out}", markup=False)
    raise typer.Exit(summary.exit_code)
