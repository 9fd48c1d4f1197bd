"""What one cell of a comparison does, and the lines it gives."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.bundle import Architecture, Bundle
from medssl.evaluate.classification import METRICS as CLASS_METRICS
from medssl.evaluate.features import pooled_features, random_encoder
from medssl.evaluate.probing import PROBES, Rows, labelled_subsets, probe_metrics
from medssl.evaluate.rank import rank_me
from medssl.evaluate.regression import regression_metrics
from medssl.evaluate.ridge import ridge_probe
from medssl.evaluate.run import count_seen
from medssl.evaluate.targets import class_targets, number_targets
from medssl.finetune import finetune
from medssl.finetune.config import architecture
from medssl.store import Store
from medssl.studies.cells import FINETUNED, Cell, amount
from medssl.studies.data import VOLUME, study_split
from medssl.studies.passes import Cost, steps_for
from medssl.studies.runs import pretrained, set_aside
from medssl.studies.settings import DataSet, TaskSettings
from medssl.training.pretrain import PretrainConfig

RIDGE = "ridge"
FEATURES, PRETRAINING = "features", "pretraining"  # readouts that are no measure of quality


@dataclass(frozen=True)
class Bench:
    """One data set, ready: its settings, its store, its split, and what each method costs.

    Attributes:
        out: the folder of the study.
        costs: by method, what a sample costs in pretraining with its encoder.
    """

    data: DataSet
    store: Store
    split: dict[str, str]
    costs: dict[str, Cost]
    out: Path

    @classmethod
    def of(cls, data: DataSet, store: Store, costs: dict[str, Cost], out: Path) -> Bench:
        """The bench of a store."""
        return cls(data, store, study_split(store), costs, out)

    def pretraining(self, cell: Cell) -> PretrainConfig:
        """The pretraining that a cell is about, or starts from."""
        config = self.data.pretraining(cell.method, cell.encoder, cell.seed, 1)
        steps = steps_for(self.data.passes, self.costs[cell.method], config.batch_size)
        return self.data.pretraining(cell.method, cell.encoder, cell.seed, steps)

    def settings(self, cell: Cell) -> dict[str, Any]:
        """All that a cell's result depends on, beside the store."""
        found: dict[str, Any] = {"seed": cell.seed, "labels": cell.labels}
        if not cell.control:
            found["pretraining"] = self.pretraining(cell).model_dump(mode="json")
        if cell.task:
            task = self.data.tasks[cell.task]
            config = self.data.finetuning(task, cell.encoder, cell.seed)
            found |= {"kind": task.kind, "finetuning": config.model_dump(mode="json")}
            found["frozen"] = task.frozen
        return found

    def measure(self, cell: Cell) -> list[dict[str, Any]]:
        """Do a cell; the lines it gives.

        Raises:
            MedsslError: what pretraining, fine-tuning and reading features raise.
        """
        if cell.kind == "pretraining":
            return self._pretrain(cell)
        if cell.kind == "frozen":
            return self._frozen(cell)
        return self._finetune(cell)

    def bundle(self, cell: Cell) -> Path:
        """Where the pretraining of a cell leaves its bundle."""
        return self._pretrained(cell) / "bundle"

    def _pretrained(self, cell: Cell) -> Path:
        own = Cell("pretraining", cell.data, cell.method, cell.encoder, cell.seed)
        return self.out / "pretrained" / own.name

    def _pretrain(self, cell: Cell) -> list[dict[str, Any]]:
        config = self.pretraining(cell)
        path = pretrained(self.store.path, self._pretrained(cell), config, self.out)
        metrics = Bundle.load(path).spec.metrics
        passes = config.steps * config.batch_size * self.costs[cell.method].passes
        found = {"steps": float(config.steps), "encoder_passes": passes, **metrics}
        return [cell.row(PRETRAINING, "", name, value) for name, value in found.items()]

    def _finetune(self, cell: Cell) -> list[dict[str, Any]]:
        task = self.data.tasks[cell.task]
        folder = self.out / "runs" / cell.name
        set_aside(folder)
        result = finetune(
            task.kind,
            self.store.path,
            folder,
            self.data.finetuning(task, cell.encoder, cell.seed),
            init=None if cell.control else self.bundle(cell),
            labels=cell.labels,
            label=VOLUME if task.kind == "regression" else task.label,
            split=self.split,
            tracking_folder=self.out,
        )
        # the bundle, its cases and its metrics are in MLflow; checkpoints are large
        shutil.rmtree(folder)
        labels = amount(cell.labels or 1.0)
        found = {k.removeprefix("test_"): v for k, v in result.metrics.items()}
        names = {"segmentation": ("dice", "nsd", "hd95_mm"), "classification": CLASS_METRICS}
        wanted = names.get(task.kind, ("mae", "r", "r2"))
        return [cell.row(FINETUNED, labels, name, found[name]) for name in wanted]

    def _frozen(self, cell: Cell) -> list[dict[str, Any]]:
        task = self.data.tasks[cell.task]
        if task.kind == "regression":
            _, values_of = number_targets(self.store, VOLUME)
            ids, numbers = list(values_of), np.array(list(values_of.values()))
            classes, labels = ["one"], np.zeros(len(ids), np.int64)
        else:
            _, classes, targets = class_targets(self.store, task.label)
            ids, labels = list(targets), np.array(list(targets.values()), np.int64)
        subjects = [self.store[v].subject_id for v in ids]
        rows = Rows(labels, subjects, np.array([self.split[s] for s in subjects]), classes)
        values = self._features(cell, task, ids, rows)
        lines = [cell.row(FEATURES, "", "rankme", rank_of(values))]
        for share, (train, held) in labelled_subsets(rows, task.frozen, cell.seed).items():
            if task.kind == "regression":
                found = {RIDGE: ridge_metrics(values, numbers, rows, train, held)}
            else:
                found = {probe: probe_metrics(probe, values, rows, train, held) for probe in PROBES}
            wanted = ("mae", "r", "r2") if task.kind == "regression" else CLASS_METRICS
            for readout, metrics in found.items():
                lines += [cell.row(readout, amount(share), m, metrics[m]) for m in wanted]
        return lines

    def _features(
        self, cell: Cell, task: TaskSettings, ids: list[str], rows: Rows
    ) -> npt.NDArray[np.float32]:
        """Pooled features of the pretrained encoder, or of a random one under the same contract."""
        config = self.data.finetuning(task, cell.encoder, cell.seed)
        if cell.control:
            train = [v for v, where in zip(ids, rows.split, strict=True) if where == "train"]
            spec, contract = architecture(self.store, train, config, None)
            encoder = random_encoder(Architecture(encoder=spec), cell.seed)
        else:
            bundle = Bundle.load(self.bundle(cell)).for_dims(self.store[ids[0]].dims)
            count_seen(bundle, rows.subjects("test"))
            pretrained_encoder: Any = bundle.model().encoder
            encoder, contract = pretrained_encoder, bundle.spec.contract
        found = pooled_features(encoder, self.store, ids, contract, device=config.device)
        return found.values.numpy()


def ridge_metrics(
    values: npt.NDArray[np.float32],
    numbers: npt.NDArray[np.float64],
    rows: Rows,
    train: npt.NDArray[np.intp],
    held: npt.NDArray[np.intp],
) -> dict[str, float]:
    """MAE, r and R^2 on the test rows of a ridge probe that learned the train rows."""
    test = rows.where("test")
    predicted = ridge_probe(
        values[train],
        numbers[train],
        [rows.subject_ids[i] for i in train],
        values[test],
        validation=(values[held], numbers[held]),
    )
    return regression_metrics(predicted, numbers[test])


def rank_of(values: npt.NDArray[np.float32]) -> float:
    """RankMe of features (n, d)."""
    import torch

    return rank_me(torch.from_numpy(values))
