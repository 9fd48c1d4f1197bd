"""Is the encoder learning? A bundle against the same network with random weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from medssl import tracking
from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.evaluate.classification import METRICS
from medssl.evaluate.features import (
    pooled_features,
    random_encoder,
    voxel_features,
)
from medssl.evaluate.inference import check_shape
from medssl.evaluate.probing import Rows, difference_table, probe_table
from medssl.evaluate.rank import rank_me
from medssl.evaluate.report import plain, probe_figure, write_report
from medssl.evaluate.targets import class_targets, partly_annotated, segmentation_volumes
from medssl.networks import Encoder
from medssl.store import Store
from medssl.store.named_splits import splits_of

FRACTIONS = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    ``probes`` and ``differences`` as :mod:`medssl.evaluate.probing` makes them; ``rank`` is RankMe
    of the pooled features of each arm (of the first seed's network, for "random"), ``rank_limit``
    the largest it could be; ``seen_test_subjects`` counts test subjects whose images were
    pretrained on.
    """

    task: str
    label: str
    classes: list[str]
    tested_on: str
    subjects: dict[str, int]
    seen_test_subjects: int
    probes: pd.DataFrame
    differences: pd.DataFrame
    rank: dict[str, float]
    rank_limit: int
    mlflow_run: str = ""

    def summary(self) -> dict[str, Any]:
        """All of it but the probes' single rows, for JSON."""
        return {
            name: plain(getattr(self, name))
            for name in self.__dataclass_fields__
            if name != "probes"
        }


@dataclass(frozen=True)
class _Problem:
    """The volumes with labels, and each subject's split."""

    task: str
    label: str
    classes: list[str]
    volume_ids: list[str]
    targets: dict[str, int]
    split: dict[str, str]
    tested_on: str


def evaluate(
    bundle_path: Path,
    store_path: Path,
    *,
    out: Path | None = None,
    label: str | None = None,
    fractions: Sequence[float] = FRACTIONS,
    seeds: int = 3,
    split: Mapping[str, str] | str | None = None,
    allow_seen: bool = False,
    device: str = "auto",
    tracking_folder: Path | None = None,
) -> EvaluationResult:
    """Probe a bundle's frozen encoder, and the same network with random weights.

    With classes, the features are those of whole volumes; with label maps, those of single voxels
    drawn from every class alike, so that chance is 0.5 AUROC. Test subjects serve for nothing but
    the reported metrics; where the store states a validation and no test split, the validation
    subjects are tested on, and nothing else uses them.

    Args:
        bundle_path: a bundle of any kind.
        store_path: a store with a label.
        out: a new folder for evaluation.json, probes.csv, differences.csv and probes.png.
        label: the column to classify; None for the label maps where there are any, else for the
            only label.
        fractions: shares of the training subjects' labels that the probes see.
        seeds: paired repeats: a draw of labelled subjects and of random weights each.
        split: NAME or NAME:FOLD of a split of the store; or subject -> "train", "validation" or
            "test", to use instead.
        allow_seen: go on although test subjects' images were pretrained on; they are counted.
        device: where the encoder runs.
        tracking_folder: where ``mlflow.db`` goes, by default beside the bundle.

    Raises:
        MedsslError: OUT_EXISTS, LABEL_MISSING, LABEL_UNSTATED, LABELS_TOO_FEW, CONTRACT_MISMATCH,
            CONFIG_INVALID, SUBJECT_LEAK and those of opening a bundle or store.
    """
    bundle, store = Bundle.load(bundle_path), Store.open(store_path)
    _check(out, fractions, seeds)
    problem = _problem(store, label, split)
    bundle = bundle.for_dims(store[problem.volume_ids[0]].dims)
    for volume_id in problem.volume_ids:
        volume = store[volume_id]
        check_shape((int(volume.row["channels"]), *volume.shape), bundle.spec.contract)
    tested = [subject for subject, name in problem.split.items() if name == "test"]
    seen = count_seen(bundle, tested, allow_seen=allow_seen)
    encoder: Any = bundle.model().encoder
    encoders = [encoder]
    encoders += [random_encoder(bundle.spec.architecture, seed) for seed in range(seeds)]
    rows, values, pooled = _features(encoders, store, problem, bundle, device)
    probes = probe_table(
        {"pretrained": [values[0]] * seeds, "random": values[1:]}, rows, fractions, seeds
    )
    result = EvaluationResult(
        task=problem.task,
        label=problem.label,
        classes=problem.classes,
        tested_on=problem.tested_on,
        subjects={name: len(rows.subjects(name)) for name in ("train", "validation", "test")},
        seen_test_subjects=seen,
        probes=probes,
        differences=difference_table(probes),
        rank={"pretrained": rank_me(pooled[0]), "random": rank_me(pooled[1])},
        rank_limit=min(pooled[0].shape),
    )
    named = split if isinstance(split, str) else None
    config = {
        "label": problem.label,
        "fractions": list(fractions),
        "seeds": seeds,
        "split": named,
    }
    folder = tracking_folder or bundle_path.resolve().parent
    return _record(result, bundle, store, config, folder, out)


def _check(out: Path | None, fractions: Sequence[float], seeds: int) -> None:
    if out is not None and out.exists():
        raise MedsslError("OUT_EXISTS", "The output folder already exists", where=out.name)
    if seeds < 1 or not fractions or not all(0 < f <= 1 for f in fractions):
        raise MedsslError(
            "CONFIG_INVALID", "At least one seed, and fractions in (0, 1], are needed"
        )


def _problem(store: Store, label: str | None, split: Mapping[str, str] | str | None) -> _Problem:
    table = store.manifest
    if label is None and (table["label_array"] != "").any():
        task, label = "segmentation", "label map"
        ids = segmentation_volumes(store)
        targets: dict[str, int] = {}
        classes = ["background", *store.info.label_names.values()]
    else:
        task = "classification"
        label, classes, targets = class_targets(store, label)
        ids = list(targets)
    where = dict(split) if isinstance(split, Mapping) else splits_of(store, split)
    labelled = table.set_index("volume_id").loc[ids, "subject_id"]
    present = {where.get(subject, "") for subject in labelled}
    tested_on = "test"
    if "test" not in present and "validation" in present:
        tested_on = "validation"
        where = {s: "test" if name == "validation" else name for s, name in where.items()}
        present = {"test" if name == "validation" else name for name in present}
    ids = [v for v in ids if where.get(labelled[v]) in ("train", "validation", "test")]
    if not {"train", "test"} <= present:
        raise MedsslError(
            "LABELS_TOO_FEW", "A probe needs labelled subjects in the training and test splits"
        )
    where = {subject: where[subject] for subject in labelled[ids]}
    return _Problem(task, label, classes, ids, targets, where, tested_on)


def count_seen(bundle: Bundle, subject_ids: Iterable[str], *, allow_seen: bool = False) -> int:
    """How many of the test subjects the bundle was trained on, with or without their labels.

    Raises:
        MedsslError: SUBJECT_LEAK where there are any, unless ``allow_seen``.
    """
    tested = sorted(set(subject_ids))
    seen = [subject for subject in tested if bundle.spec.has_seen(subject)]
    if seen and not allow_seen:
        raise MedsslError(
            "SUBJECT_LEAK",
            f"{len(seen)} of {len(tested)} test subjects were seen in training this bundle",
            where=seen[0],
            fix="Pretrain with these subjects held out, or state --allow-seen to count them.",
        )
    return len(seen)


def _features(
    encoders: Sequence[Encoder], store: Store, problem: _Problem, bundle: Bundle, device: str
) -> tuple[Rows, list[npt.NDArray[np.float32]], list[Tensor]]:
    """The rows to probe, each encoder's features of them, and its pooled features."""
    contract, ids = bundle.spec.contract, problem.volume_ids
    if problem.task == "classification":
        found = [pooled_features(e, store, ids, contract, device=device) for e in encoders]
        subjects = found[0].subject_ids
        labels = np.array([problem.targets[v] for v in ids], np.int64)
        values = [f.values.numpy() for f in found]
        pooled = [f.values for f in found]
    else:
        label_values = [0, *store.info.label_names]
        partial = partly_annotated(store, ids)
        at_voxels = [
            voxel_features(e, store, ids, contract, label_values, partial=partial, device=device)
            for e in encoders
        ]
        subjects, labels = at_voxels[0].subject_ids, at_voxels[0].labels
        values = [f.values.numpy() for f in at_voxels]
        pooled = [f.pooled.values for f in at_voxels]
    split = np.array([problem.split[subject] for subject in subjects])
    rows = Rows(labels, subjects, split, problem.classes)
    for name in ("train", "test"):
        if len(np.unique(labels[rows.where(name)])) < 2:
            raise MedsslError(
                "LABELS_TOO_FEW", f"The {name} subjects carry fewer than two classes", where=name
            )
    return rows, values, pooled


def _record(
    result: EvaluationResult,
    bundle: Bundle,
    store: Store,
    config: dict[str, Any],
    folder: Path,
    out: Path | None,
) -> EvaluationResult:
    figure = probe_figure(result.probes)
    tags = {"bundle": bundle.spec.weights_sha256, "data_fingerprint": store.fingerprint()}
    name = f"{bundle.spec.method or bundle.spec.kind}-{result.task}"
    with tracking.run("medssl-evaluate", name, folder, tags=tags) as run:
        result = replace(result, mlflow_run=run.run_id)
        run.log_config(config)
        run.log_metrics(flat_metrics(result))
        run.log_figure(figure, "probes")
        if out is not None:
            tables = {"probes": result.probes, "differences": result.differences}
            write_report(out, {**result.summary(), **tags, "config": config}, tables, figure)
            run.log_folder(out, "evaluation")
    return result


def flat_metrics(result: EvaluationResult) -> dict[str, float]:
    """Means over seeds as ``ARM_PROBE_PERCENT_METRIC``, and the ranks, for tracking."""
    flat = {f"{arm}_rankme": value for arm, value in result.rank.items()}
    metrics = list(METRICS)
    means = result.probes.groupby(["arm", "probe", "fraction"])[metrics].mean().reset_index()
    for row in means.to_dict("records"):
        prefix = f"{row['arm']}_{row['probe']}_{100 * row['fraction']:g}pct"
        flat |= {f"{prefix}_{metric}": float(row[metric]) for metric in metrics}
    return flat
