"""Whole volumes through the model, as prediction would, and their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import nn

from medssl.bundle import InputContract, TargetSpec
from medssl.evaluate.classification import classification_metrics
from medssl.evaluate.inference import classify_volume, segment_volume, volume_outputs
from medssl.evaluate.regression import regression_metrics
from medssl.evaluate.segmentation import segmentation_metrics
from medssl.store import Store

METRICS = ("dice", "nsd", "hd95_mm")


def validate_segmentation(
    model: nn.Module,
    store: Store,
    volume_ids: Sequence[str],
    contract: InputContract,
    annotated: Mapping[str, frozenset[int]],
    tolerance_mm: float | Mapping[int, float],
) -> pd.DataFrame:
    """One row per volume and class that it was annotated for: volume_id, subject_id, label, dice,
    nsd, hd95_mm, empty. Of other classes nothing is known there.

    ``empty`` names the map without that class (see :mod:`medssl.evaluate.segmentation`).
    """
    device = next(model.parameters()).device
    rows = []
    for volume_id in volume_ids:
        volume = store[volume_id]
        truth = volume.label()
        assert truth is not None
        found = segment_volume(
            model, volume.array(), volume.spacing, volume.row, contract, device, window_batch=2
        )
        classes = sorted(annotated[volume_id])
        metrics = segmentation_metrics(
            found, np.asarray(truth[0]), volume.spacing, classes, tolerance_mm
        )
        for value, measured in metrics.items():
            rows.append(
                {
                    "volume_id": volume_id,
                    "subject_id": volume.subject_id,
                    "label": store.info.label_names[value],
                    **measured.as_dict(),
                    "empty": measured.empty,
                }
            )
    return pd.DataFrame(rows)


def summarise_segmentation(table: pd.DataFrame, prefix: str) -> dict[str, float]:
    """Mean of each metric over all classes, and per class, over subjects.

    ``missed`` counts the structures that are in the truth and were not found at all, in which the
    mean HD95 has the diagonal of the image.
    """
    if table.empty:
        return {}
    by_subject = table.groupby(["label", "subject_id"])[list(METRICS)].mean()
    per_label = by_subject.groupby("label").mean()
    result = {f"{prefix}_{name}": float(per_label[name].mean()) for name in METRICS}
    result[f"{prefix}_missed"] = float((table["empty"] == "prediction").sum())
    for label, row in per_label.iterrows():
        result |= {f"{prefix}_{name}_{_word(label)}": float(row[name]) for name in METRICS}
    return result


def _word(label: object) -> str:
    return "".join(c if c.isalnum() else "_" for c in str(label))


def validate_classification(
    model: nn.Module,
    store: Store,
    volume_ids: Sequence[str],
    contract: InputContract,
    targets: Mapping[str, int],
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Probabilities of every volume, and AUROC, average precision and balanced accuracy."""
    device = next(model.parameters()).device
    rows, scores = [], []
    for volume_id in volume_ids:
        volume = store[volume_id]
        probability = classify_volume(
            model, volume.array(), volume.spacing, volume.row, contract, device
        )
        scores.append(probability)
        rows.append(
            {
                "volume_id": volume_id,
                "subject_id": volume.subject_id,
                "target": targets[volume_id],
                **{f"p{i}": float(p) for i, p in enumerate(probability)},
            }
        )
    if not rows:
        return pd.DataFrame(), {}
    truth = np.array([row["target"] for row in rows])
    return pd.DataFrame(rows), classification_metrics(np.stack(scores), truth)


def validate_regression(
    model: nn.Module,
    store: Store,
    volume_ids: Sequence[str],
    contract: InputContract,
    values: Mapping[str, float],
    target: TargetSpec,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The prediction of every volume beside its number, and MAE, r and R^2."""
    device = next(model.parameters()).device
    rows = []
    for volume_id in volume_ids:
        volume = store[volume_id]
        output = volume_outputs(model, volume.array(), volume.spacing, volume.row, contract, device)
        rows.append(
            {
                "volume_id": volume_id,
                "subject_id": volume.subject_id,
                "target": values[volume_id],
                "predicted": target.in_units(float(output[0])),
            }
        )
    table = pd.DataFrame(rows)
    if table.empty:
        return table, {}
    return table, regression_metrics(table["predicted"].to_numpy(), table["target"].to_numpy())
