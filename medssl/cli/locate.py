"""`medssl locate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def locate(
    first: Annotated[Path, typer.Argument(metavar="A", help="A NIfTI file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The one to find the point in.")],
    point: Annotated[
        tuple[float, float, float],
        typer.Option(help="X Y Z of a point in A: mm in the scanner's space, RAS+."),
    ],
    bundle: Annotated[
        Path, typer.Option(help="A bundle pretrained with --method anatomical_embedding.")
    ],
    voxel: Annotated[
        bool,
        typer.Option("--voxel", help="The point is a voxel of A, from 0, along the file's axes."),
    ] = False,
    map_path: Annotated[
        Path | None,
        typer.Option(
            "--map", metavar="OUT.nii.gz", help="Write the similarity of every voxel of B."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find a point of scan A in scan B, by anatomy.

    Prints the place in mm and as a voxel of B, and two numbers to trust it by. Similarity: how
    alike the two places are to the network, at most 1; compare it between points of one bundle
    only. There and back: the place found in B is looked for in A again, and lies so many mm from
    the point asked for; a large distance says that the match is wrong, a small one does not prove
    it right. For research: not a measurement, and no substitute for looking. Exit codes: 0 found,
    2 wrong usage (a point outside of A, another kind of scan or bundle), 4 a scan cannot be used.

    \b
    Example:
      medssl locate baseline.nii.gz followup.nii.gz --point -24 12 38 --bundle runs/places/bundle
      medssl locate A.nii B.nii --point 120 88 40 --voxel --bundle BUNDLE --map like.nii.gz --json
    """
    from medssl.predict.locate import locate_point

    found = locate_point(
        first, second, point, bundle, voxel=voxel, map_path=map_path, device=device
    )
    values = asdict(found)
    if as_json:
        import json

        typer.echo(json.dumps(values))
        return
    from medssl.cli.common import show

    def row(numbers: tuple[float, ...]) -> str:
        return " ".join(f"{number:g}" for number in numbers)

    shown = {
        "in A, mm (RAS+)": row(found.asked_mm),
        "in A, voxel": row(found.asked_voxel),
        "in B, mm (RAS+)": row(found.mm),
        "in B, voxel": row(found.voxel),
        "similarity, at most 1": f"{found.similarity:.3f}",
        "there and back, mm": f"{found.return_mm:.1f}",
    }
    show("found", shown, as_json=False)
