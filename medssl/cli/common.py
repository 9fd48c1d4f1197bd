"""What verbs share: finding a preset, and printing a result for people or for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer


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
