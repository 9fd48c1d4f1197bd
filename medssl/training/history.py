"""What a run logged: rows of numbers by step, in ``history.csv`` and in MLflow."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path

from medssl.tracking import Run

_FLUSH_SECONDS = 5.0


@dataclass
class History:
    """Metrics by step, one row per log; ``seconds`` counts the loop alone.

    ``speed`` has a row per log too: how fast the run was and what of the machine it used. These
    numbers differ each time, so that they are kept apart from those that do not.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    speed: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def write(self, path: Path) -> None:
        """Write the rows as CSV, whole or not at all."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(path)


class Reporter:
    """Sends rows to MLflow some seconds' worth at a time: a call costs as much as a small step."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: list[dict[str, float]] = []
        self._sent = time.perf_counter()

    def add(self, row: dict[str, float]) -> None:
        """Take a row."""
        self._waiting.append(row)
        if time.perf_counter() - self._sent > _FLUSH_SECONDS:
            self.send()

    def send(self) -> None:
        """Send what waits."""
        rows, self._waiting = self._waiting, []
        if rows:
            self._run.log_rows(rows)
        self._sent = time.perf_counter()
