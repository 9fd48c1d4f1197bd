"""Fine-tuning: a labelled store and perhaps a bundle in, a task bundle and its metrics out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from medssl import tracking
from medssl.bundle import (
    Architecture,
    Bundle,
    BundleSpec,
    InputContract,
    TaskSpec,
    build,
    seen_record,
)
from medssl.errors import MedsslError
from medssl.finetune.config import FinetuneConfig, Kind, architecture
from medssl.finetune.labels import guard_leak
from medssl.finetune.problem import Problem, find_problem
from medssl.finetune.tasks import (
    ClassificationTask,
    FinetuneTask,
    RegressionTask,
    SegmentationTask,
    balanced_weights,
)
from medssl.finetune.transfer import TransferReport, transfer
from medssl.finetune.validate import (
    summarise_segmentation,
    validate_classification,
    validate_regression,
    validate_segmentation,
)
from medssl.methods import check_views
from medssl.store import Store
from medssl.training.data import CropSource
from medssl.training.devices import check, is_leader, leave_to_leader
from medssl.training.figures import curve_figure
from medssl.training.loop import History, fit
from medssl.training.sharding import usable

# Differs from pretraining's, so that a scratch model is not the pretraining's starting point.
_INITIAL_STREAM = 7919


@dataclass
class FinetuneResult:
    """The bundle, metrics by name ("test_dice", ...), the cases behind them, and the transfer."""

    bundle: Path
    metrics: dict[str, float]
    cases: pd.DataFrame
    transfer: TransferReport | None
    history: History
    train_subjects: list[str]
    test_subjects: list[str]
    mlflow_run: str


def finetune(
    kind: Kind,
    store_path: Path,
    out: Path,
    config: FinetuneConfig,
    *,
    init: Path | None = None,
    labels: int | float | None = None,
    label: str | None = None,
    split: Mapping[str, str] | None = None,
    tracking_folder: Path | None = None,
) -> FinetuneResult:
    """Fine-tune on the labelled training subjects and test on the test subjects.

    Args:
        kind: "segmentation", "classification" or "regression".
        store_path: the store with labels.
        out: a folder that does not exist.
        config: see :class:`FinetuneConfig`.
        init: a bundle to start from; None for random weights (scratch).
        labels: how many (int) or which share (float) of the labelled training subjects to use.
        label: the column to classify or to predict; may be left out where there is one.
        split: subject -> split, to use instead of the store's.
        tracking_folder: where ``mlflow.db`` goes, by default beside ``out``.

    Raises:
        MedsslError: OUT_EXISTS, LABEL_MISSING, LABEL_UNSTATED, LABELS_TOO_FEW, CONTRACT_MISMATCH,
            CONFIG_INVALID, TRANSFER_TOO_LITTLE, SUBJECT_LEAK and what the loop raises.
    """
    store, config = Store.open(store_path), config.of_kind(kind)
    if out.exists() and is_leader():
        raise MedsslError(
            "OUT_EXISTS", "The output folder already exists", where=out.name, fix="Give another."
        )
    bundle = Bundle.load(init) if init is not None else None
    problem = find_problem(kind, store, config, labels, label, split)
    guard_leak(bundle, store, problem.volumes.test)
    if bundle is not None:
        bundle = bundle.for_dims(store[problem.volumes.train[0]].dims)
    encoder, crops = architecture(store, problem.volumes.train, config, bundle)
    check_views(config, {store[v].modality for v in problem.volumes.train}, crops.intensity.scheme)
    contract = crops
    if config.window is not None:
        contract = crops.model_copy(update={"patch_size": config.window})
    built = Architecture(encoder=encoder, task=TaskSpec(kind=kind, classes=problem.outputs))
    torch.manual_seed(config.seed + _INITIAL_STREAM)
    model = build(built)
    report = _transfer(model, bundle, config)
    check(config, model)
    if is_leader():
        out.mkdir(parents=True)
    name = f"{kind}-{'pretrained' if bundle else 'scratch'}-{len(problem.volumes.train_subjects)}"
    folder = tracking_folder or out.parent
    with tracking.run("medssl-finetune", name, folder, silent=not is_leader()) as run:
        run.log_config(config.model_dump(mode="json"))
        run.set_tags(_tags(kind, store, bundle, problem))
        if report is not None and is_leader():
            run.log_metrics(report.summary())
            (out / "transfer.json").write_text(json.dumps(asdict(report), indent=2))
            run.log_file(out / "transfer.json")
        task = _task(model, problem, config)
        task.rates = _rates(report, config)
        history = _train(task, store, problem, (crops, contract), config, out, run)
        leave_to_leader()
        metrics, cases = _test(model, store, problem, contract, config)
        run.log_metrics(metrics, config.steps)
        run.log_figure(curve_figure(history.rows, ["loss"], "fine-tuning loss"), "loss")
        cases.to_csv(out / "cases.csv", index=False)
        run.log_file(out / "cases.csv")
        spec = _spec(kind, store, problem, built, contract, config, bundle, metrics, run.run_id)
        saved = Bundle.save(out / "bundle", model, spec)
        run.log_folder(saved.path, "bundle")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    tested = sorted({store[v].subject_id for v in problem.volumes.test})
    subjects = problem.volumes.train_subjects
    return FinetuneResult(saved.path, metrics, cases, report, history, subjects, tested, run.run_id)


def _transfer(
    model: nn.Module, bundle: Bundle | None, config: FinetuneConfig
) -> TransferReport | None:
    report = None
    if bundle is not None:
        state = bundle.state()
        if not config.transfer_decoder:
            state = {k: v for k, v in state.items() if k.startswith("encoder.")}
        report = transfer(model, state, config.transfer_minimum)
    if config.freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith("encoder."))
    return report


def _rates(report: TransferReport | None, config: FinetuneConfig) -> dict[str, float]:
    """The factors on lr of what came over, by its name in the task."""
    if report is None or config.transfer_lr == 1.0:
        return {}
    return {f"model.{name}": config.transfer_lr for name in (*report.matched, *report.adapted)}


def _train(
    task: FinetuneTask,
    store: Store,
    problem: Problem,
    contracts: tuple[InputContract, InputContract],
    config: FinetuneConfig,
    out: Path,
    run: tracking.Run,
) -> History:
    """Train on crops under the first contract, validate on whole volumes under the second."""
    volumes, (crops, contract) = problem.volumes, contracts
    source = CropSource(
        store,
        volumes.train,
        crops.patch_size,
        crops.intensity,
        config.seed,
        spacing=crops.spacing,
        foreground=config.foreground if problem.kind == "segmentation" else 0.0,
        targets=problem.targets,
        labels=problem.kind == "segmentation",
    )

    def after_step(step: int, _: Any) -> dict[str, float] | None:
        if not config.validate_every or step % config.validate_every or not volumes.validation:
            return None
        some = volumes.validation[: config.validation_volumes]
        with usable(task):
            return _measure(task.model, store, problem, contract, config, some, "validation")[0]

    return fit(task, source, config, out, run, after_step=after_step, description="fine-tuning")


def _task(model: nn.Module, problem: Problem, config: FinetuneConfig) -> FinetuneTask:
    train = problem.volumes.train
    if problem.kind == "segmentation":
        known = torch.tensor(problem.known)
        asked = None if known.all() else known
        return SegmentationTask(model, config.augment, config.skip_absent, asked)
    if problem.kind == "regression":
        return RegressionTask(model, config.augment, torch.tensor(problem.standardised(train)))
    counts = [0] * problem.outputs
    for volume_id in train:
        counts[problem.targets[volume_id]] += 1
    return ClassificationTask(model, config.augment, balanced_weights(counts))


def _measure(
    model: nn.Module,
    store: Store,
    problem: Problem,
    contract: InputContract,
    config: FinetuneConfig,
    volume_ids: list[str],
    prefix: str,
) -> tuple[dict[str, float], pd.DataFrame]:
    if problem.kind == "segmentation":
        tolerances = config.tolerances(problem.label_names)
        table = validate_segmentation(
            model, store, volume_ids, contract, problem.annotated, tolerances
        )
        return summarise_segmentation(table, prefix), table
    if problem.target is not None:
        table, metrics = validate_regression(
            model, store, volume_ids, contract, problem.values, problem.target
        )
    else:
        table, metrics = validate_classification(
            model, store, volume_ids, contract, problem.targets
        )
    return {f"{prefix}_{name}": value for name, value in metrics.items()}, table


def _test(
    model: nn.Module,
    store: Store,
    problem: Problem,
    contract: InputContract,
    config: FinetuneConfig,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Metrics of all volumes of the splits that config.report names, whole."""
    metrics: dict[str, float] = {}
    tables = [pd.DataFrame()]
    for prefix in config.report:
        ids = getattr(problem.volumes, prefix)
        found, table = _measure(model, store, problem, contract, config, ids, prefix)
        metrics |= found
        tables.append(table.assign(split=prefix))
    return metrics, pd.concat(tables, ignore_index=True)


def _tags(kind: Kind, store: Store, bundle: Bundle | None, problem: Problem) -> dict[str, str]:
    return {
        "kind": kind,
        "init": bundle.spec.weights_sha256 if bundle else "scratch",
        "labelled_subjects": str(len(problem.volumes.train_subjects)),
        "data_fingerprint": store.fingerprint(),
    }


def _spec(
    kind: Kind,
    store: Store,
    problem: Problem,
    built: Architecture,
    contract: InputContract,
    config: FinetuneConfig,
    bundle: Bundle | None,
    metrics: dict[str, float],
    run_id: str,
) -> BundleSpec:
    return BundleSpec(
        kind=kind,
        architecture=built,
        contract=contract,
        method=bundle.spec.method if bundle else "scratch",
        config=config.model_dump(mode="json"),
        label_names=problem.label_names,
        classes=problem.classes,
        target=problem.target,
        metrics={name: value for name, value in metrics.items() if value == value},
        data_fingerprint=store.fingerprint(),
        mlflow_run=run_id,
        **seen_record(problem.volumes.train_subjects, bundle.spec if bundle else None),
    )
