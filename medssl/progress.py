"""Progress bars that vanish when standard error is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(
    iterable: Iterable[T],
    description: str,
    total: float | None = None,
    note: Callable[[], str] = str,
) -> Iterator[T]:
    """Yield from ``iterable`` while a bar on standard error shows how far it is.

    Args:
        iterable: what to go through.
        description: the text before the bar; no identifiers.
        total: its length, where ``len(iterable)`` does not tell.
        note: gives what stands after the bar; asked after every item.
    """
    if not sys.stderr.isatty():
        yield from iterable
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from iterable
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total, note="")
        for item in bar.track(iterable, total=total, task_id=task):
            yield item
            bar.update(task, note=note())
