"""What verbs share: finding a preset, and printing a result for people or for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

StudyKey = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="Site key of the store; with pipelines/public_data.key, which is no secret and so for "
        "public data only, everyone has the same subjects in each split.",
    ),
]


def preset(config: Path | None) -> Path | None:
    """The file of ``--config``: a path as given, or the name of a preset that comes along."""
    if config is None or config.exists():
        return config
    from medssl.resources import find

    name = config.as_posix().removeprefix("configs/").removesuffix(".yaml")
    return find(f"configs/{name}.yaml")


def show(title: str, values: Mapping[str, Any], as_json: bool) -> None:
    """Print one result."""
    if as_json:
        typer.echo(json.dumps(dict(values)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in values.items():
        table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)


def files_table(counts: Mapping[tuple[str, str], int], known: int = 0) -> Table:
    """What became of the files: a row for each outcome and code, and the files found below.

    Args:
        counts: files by outcome and code.
        known: further files that an earlier ingest had accounted for.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from medssl.errors import CODES
    from medssl.store import Outcome

    order = [outcome.value for outcome in Outcome]
    table = Table(
        title="What became of the files",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_footer=True,
    )
    table.add_column("outcome", footer="found")
    table.add_column("code", no_wrap=True)
    table.add_column("files", f"{sum(counts.values()) + known:,}", justify="right")
    table.add_column("meaning")
    for outcome, code in sorted(counts, key=lambda key: (order.index(key[0]), key[1])):
        meaning = CODES[code].meaning if code in CODES else ""
        style = "red" if outcome == Outcome.REJECTED.value else None
        table.add_row(outcome, code, f"{counts[outcome, code]:,}", meaning, style=style)
    if known:
        table.add_row("known", "", f"{known:,}", "Accounted for before, and not read again.")
    return table
