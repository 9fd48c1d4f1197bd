"""The cells of a comparison: what each is, and what is on disk of it.

A cell is the least that is done whole: a pretraining, the probes of one frozen encoder, or one
fine-tuning. Its result is one small file that appears whole, so that a study that was killed goes
on with the cell it was at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from medssl.errors import MedsslError
from medssl.studies.runs import write_whole
from medssl.studies.settings import Labels, Study

RANDOM, SCRATCH = "random", "scratch"
FINETUNED: Literal["fine-tuned"] = "fine-tuned"
NOT_PRETRAINED = "not pretrained"
COLUMNS = ["method", "encoder", "task", "labels", "readout", "seed", "metric", "value"]

Kind = Literal["pretraining", "frozen", "fine-tuned"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        kind: what is done.
        data: the data set.
        method: a method's name, or of a control "random" (frozen) or "scratch" (fine-tuned).
        encoder: its name.
        seed: of everything in it.
        task: what is learned, "" in pretraining.
        labels: of fine-tuning; a frozen encoder is probed at all of them in one cell.
    """

    kind: Kind
    data: str
    method: str
    encoder: str
    seed: int
    task: str = ""
    labels: Labels | None = None

    @property
    def name(self) -> str:
        """The cell's name among files."""
        parts = [self.kind, self.task or self.data, self.method, self.encoder]
        if self.labels is not None:
            parts.append(amount(self.labels).replace(" %", "pct"))
        return "_".join([*parts, str(self.seed)])

    @property
    def control(self) -> bool:
        """Whether nothing is pretrained for it."""
        return self.method in (RANDOM, SCRATCH)

    def row(self, readout: str, labels: str, metric: str, value: float) -> dict[str, Any]:
        """A line of the results."""
        where = {"method": self.method, "encoder": self.encoder, "task": self.task or self.data}
        return {
            **where,
            "labels": labels,
            "readout": readout,
            "seed": self.seed,
            "metric": metric,
            "value": value,
        }


def amount(labels: Labels) -> str:
    """How many labels, in words: ``2`` subjects or ``10 %`` of them."""
    return f"{100 * labels:g} %" if isinstance(labels, float) else str(labels)


def plan(study: Study, encoders: Mapping[str, Mapping[str, str]]) -> list[Cell]:
    """All cells in the order they are done: seed by seed, so that what is there is paired.

    Args:
        study: the study.
        encoders: by data set and method, the encoder it is built with. A method that is left out
            there has no cells.
    """
    cells: list[Cell] = []
    for seed in range(study.seeds):
        for data in study.selected():
            chosen = encoders[data]
            for encoder in dict.fromkeys(chosen.values()):
                cells += _task_cells(study, data, None, encoder, seed)
            for method, encoder in chosen.items():
                cells.append(Cell("pretraining", data, method, encoder, seed))
                cells += _task_cells(study, data, method, encoder, seed)
    return cells


def _task_cells(study: Study, data: str, method: str | None, encoder: str, seed: int) -> list[Cell]:
    cells = []
    for task, settings in study.tasks_of(data).items():
        if settings.frozen:
            cells.append(Cell("frozen", data, method or RANDOM, encoder, seed, task))
        for labels in settings.finetuned:
            arm = method or SCRATCH
            cells.append(Cell(FINETUNED, data, arm, encoder, seed, task, labels))
    return cells


@dataclass(frozen=True)
class Record:
    """What a cell found: lines of the results; or ``failed``, the code of the error that ended it,
    or :data:`NOT_PRETRAINED`."""

    rows: list[dict[str, Any]]
    seconds: float
    failed: str = ""


class Records:
    """The results of cells, one file each in ``OUT/cells``."""

    def __init__(self, out: Path) -> None:
        self._folder = out / "cells"

    def read(self, cell: Cell, settings: Mapping[str, Any]) -> Record | None:
        """What is there of a cell, done under these settings.

        Raises:
            MedsslError: RESUME_MISMATCH where it was done under others.
        """
        file = self._folder / f"{cell.name}.json"
        if not file.exists():
            return None
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.pop("settings") != json.loads(json.dumps(settings)):
            raise MedsslError(
                "RESUME_MISMATCH",
                "A result in this folder was made with another configuration",
                where=cell.name,
                fix="Give another folder, or the configuration it was made with.",
            )
        return Record(**found)

    def write(self, cell: Cell, settings: Mapping[str, Any], record: Record) -> None:
        """Keep what a cell found."""
        content = {"settings": settings, **asdict(record)}
        write_whole(self._folder / f"{cell.name}.json", json.dumps(content, indent=1))

    def table(self) -> pd.DataFrame:
        """The lines of all cells that are done, in the order of their names."""
        rows = []
        for file in sorted(self._folder.glob("*.json")):
            rows += json.loads(file.read_text(encoding="utf-8"))["rows"]
        return pd.DataFrame(rows, columns=COLUMNS)

    def failures(self) -> dict[str, str]:
        """The names of the cells that failed, and the code of why."""
        found = {}
        for file in sorted(self._folder.glob("*.json")):
            code = json.loads(file.read_text(encoding="utf-8"))["failed"]
            if code and code != NOT_PRETRAINED:
                found[file.stem] = code
        return found
