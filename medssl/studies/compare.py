"""Compare methods: every one at equal encoder passes, beside scratch and random encoders."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from medssl import tracking
from medssl.errors import MedsslError
from medssl.store import Store
from medssl.studies.cells import NOT_PRETRAINED, Cell, Kind, Record, Records, plan
from medssl.studies.data import ready_store
from medssl.studies.measure import Bench
from medssl.studies.passes import Cost, cost_of
from medssl.studies.runs import same_study
from medssl.studies.settings import DataSet, Study
from medssl.studies.summary import figure, markdown, summary

EXPERIMENT = "medssl-compare-methods"

# A method that collapses or diverges on a data set is a result, and the others go on.
_RESULTS = ("TRAINING_COLLAPSED", "TRAINING_DIVERGED")


@dataclass
class Comparison:
    """A study in a folder: its cells, and what is done of them.

    Attributes:
        left_out: by data set, the methods that none of its encoders can be built with, and why.
    """

    study: Study
    out: Path
    benches: dict[str, Bench]
    cells: list[Cell]
    records: Records
    left_out: dict[str, dict[str, str]]

    def open_cells(self) -> list[Cell]:
        """The cells that are still to be done.

        Raises:
            MedsslError: RESUME_MISMATCH.
        """
        return [cell for cell in self.cells if self._read(cell) is None]

    def run(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Do all that is to be done, and keep each cell as it is done."""
        todo = self.open_cells()
        for number, cell in enumerate(todo, start=1):
            record = self._do(cell)
            self.records.write(cell, self.benches[cell.data].settings(cell), record)
            told = record.failed or f"{record.seconds:.0f} s"
            say(f"{number} of {len(todo)}  {cell.name}  {told}")

    def estimate(self) -> dict[str, float]:
        """Roughly how many seconds the open cells take on this CPU, by kind.

        Pretraining is what its samples cost. Fine-tuning is reckoned at the cost of one encoder
        pass a sample, twice that of segmentation, whose decoder works on the finest grid; then the
        test volumes come, and the features of a frozen encoder at a third of a pass each.
        """
        found: dict[str, float] = dict.fromkeys(get_args(Kind), 0.0)
        for cell in self.open_cells():
            bench = self.benches[cell.data]
            each = [cost.seconds / cost.passes for cost in bench.costs.values()]
            one_pass = sum(each) / len(each)
            volumes = len(bench.store.manifest)
            if cell.kind == "pretraining":
                config = bench.pretraining(cell)
                cost = bench.costs[cell.method]
                found[cell.kind] += cost.seconds * config.steps * config.batch_size
            elif cell.kind == "frozen":
                found[cell.kind] += volumes * one_pass / 3
            else:
                task = bench.data.tasks[cell.task]
                factor = 2 if task.kind == "segmentation" else 1
                tested = sum(side == "test" for side in bench.split.values())
                samples = task.finetune.steps * task.finetune.batch_size + tested
                found[cell.kind] += one_pass * factor * samples
        return found

    def _read(self, cell: Cell) -> Record | None:
        return self.records.read(cell, self.benches[cell.data].settings(cell))

    def _do(self, cell: Cell) -> Record:
        started = time.perf_counter()
        if not cell.control and cell.kind != "pretraining":
            before = self._read(
                Cell("pretraining", cell.data, cell.method, cell.encoder, cell.seed)
            )
            if before is not None and before.failed:
                return Record([], 0.0, NOT_PRETRAINED)
        try:
            rows, failed = self.benches[cell.data].measure(cell), ""
        except MedsslError as error:
            if error.code not in _RESULTS:
                raise
            rows, failed = [], error.code
        return Record(rows, time.perf_counter() - started, failed)


def comparison(study: Study, source: Path, out: Path, key_file: Path | None = None) -> Comparison:
    """Make ready what a study needs: stores, and what each method costs with its encoder.

    Args:
        study: what to compare.
        source: the folder that the data sets' folders are in.
        out: the folder of the study, new or that of one that was stopped.
        key_file: of the stores, see :func:`ready_store`.

    Raises:
        MedsslError: RESUME_MISMATCH, INPUT_MISSING, METHOD_UNKNOWN, CONFIG_INVALID and what ingest
            raises.
    """
    methods = study.methods()
    out.mkdir(parents=True, exist_ok=True)
    same_study(study.fixed(), out)
    benches, encoders, left_out = {}, {}, {}
    for name, data in study.selected().items():
        # data sets that differ in their pretraining alone share a store, so its draws of subjects
        alike = [d for d in study.data.values() if d.folder == data.folder]
        volumes = any(t.kind == "regression" for d in alike for t in d.tasks.values())
        store = ready_store(
            source / data.folder,
            out / "stores" / data.folder,
            modality=data.modality,
            label_names=data.label_names,
            volumes=volumes,
            key_file=key_file,
        )
        fitting = fitting_encoders(data, store, methods, out)
        benches[name] = Bench.of(fitting.data, store, fitting.costs, out)
        encoders[name], left_out[name] = fitting.encoders, fitting.refused
    return Comparison(study, out, benches, plan(study, encoders), Records(out), left_out)


@dataclass(frozen=True)
class Fitting:
    """What the methods are compared with on a data set.

    Attributes:
        data: the data set; its encoders are also those that methods make of the ones it names.
        encoders: by method, the encoder it trains.
        costs: by method, what a sample costs with that.
        refused: by method that is in neither, why it fits none.
    """

    data: DataSet
    encoders: dict[str, str]
    costs: dict[str, Cost]
    refused: dict[str, str]


def fitting_encoders(data: DataSet, store: Store, methods: Sequence[str], out: Path) -> Fitting:
    """For each method the first encoder that it can be built with, and what a sample costs."""
    found = Fitting(data.model_copy(update={"encoders": {**data.encoders}}), {}, {}, {})
    dims: Literal[2, 3] = 2 if store[next(iter(store))].dims == 2 else 3
    for method in methods:
        reasons = []
        for asked in data.encoders:
            spec = data.trained(method, asked, dims)
            found.data.encoders[spec.name] = spec.options
            config = found.data.pretraining(method, spec.name, 0, 1)
            try:
                found.costs[method] = cost_of(store, config, out)
            except ValueError as error:
                reasons.append(f"{asked}: {error}")
            except MedsslError as error:
                if error.code != "CONFIG_INVALID":
                    raise
                reasons.append(f"{asked}: {error.what}")
            else:
                found.encoders[method] = spec.name
                break
        if method not in found.encoders:
            found.refused[method] = "; ".join(reasons)
    return found


def report(found: Comparison) -> str:
    """Write and log results.csv, summary.csv, summary.md and compare_methods.png; the text.

    The results are those of all cells in the folder, also of earlier selections.
    """
    out, table = found.out, found.records.table()
    table.to_csv(out / "results.csv", index=False)
    compared = summary(table)
    compared.to_csv(out / "summary.csv", index=False)
    text = markdown(compared, found.records.failures(), found.left_out)
    (out / "summary.md").write_text(text, encoding="utf-8")
    figure(compared).savefig(out / "compare_methods.png", dpi=150)
    with tracking.run(EXPERIMENT, "summary", out) as run:
        run.log_config(found.study.model_dump(mode="json"))
        for name in ("results.csv", "summary.csv", "summary.md", "compare_methods.png"):
            run.log_file(out / name)
        run.log_metrics(_flat(compared))
    return text


def _flat(compared: pd.DataFrame) -> dict[str, float]:
    """Gains by a name that MLflow takes."""
    flat = {}
    for row in compared.to_dict("records"):
        parts = [row[k] for k in ("method", "encoder", "task", "labels", "readout", "metric")]
        flat["_".join(map(str, parts)).replace(" %", "pct") + "_gain"] = float(row["gain"])
    return flat
