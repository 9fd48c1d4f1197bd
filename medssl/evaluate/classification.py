"""Classification metrics, and their confidence intervals by subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

METRICS = ("auroc", "average_precision", "balanced_accuracy")


@dataclass(frozen=True)
class Interval:
    """A percentile interval; ``skipped`` resamples held one class only and were left out."""

    low: float
    high: float
    repeats: int
    skipped: int


def classification_metrics(
    scores: npt.NDArray[np.floating[Any]], truth: npt.NDArray[np.integer[Any]]
) -> dict[str, float]:
    """AUROC, average precision and balanced accuracy.

    AUROC and average precision are one-vs-rest, averaged with equal weight over the classes that
    occur in ``truth``; of two classes, they are those of class 1. Balanced accuracy is the mean
    recall of the occurring classes, the prediction being the class of the highest score. Where
    ``truth`` holds a single class, AUROC and average precision are nan.

    Args:
        scores: (n, classes), higher means more likely.
        truth: (n,) integers in [0, classes).

    Raises:
        ValueError: shapes do not fit, a label is out of range, or a score is not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, truth = np.asarray(scores), np.asarray(truth)
    if scores.ndim != 2 or scores.shape[1] < 2 or truth.shape != scores.shape[:1] or not len(truth):
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} do not fit")
    if truth.min() < 0 or truth.max() >= scores.shape[1] or not np.isfinite(scores).all():
        raise ValueError("labels must lie in [0, classes) and scores must be finite")
    present = np.unique(truth)
    recall = [float((scores[truth == c].argmax(axis=1) == c).mean()) for c in present]
    if len(present) < 2:
        return {
            "auroc": float("nan"),
            "average_precision": float("nan"),
            "balanced_accuracy": float(np.mean(recall)),
        }
    positives = [1] if scores.shape[1] == 2 else [int(c) for c in present]
    auroc = [roc_auc_score(truth == c, scores[:, c]) for c in positives]
    precision = [average_precision_score(truth == c, scores[:, c]) for c in positives]
    return {
        "auroc": float(np.mean(auroc)),
        "average_precision": float(np.mean(precision)),
        "balanced_accuracy": float(np.mean(recall)),
    }


def bootstrap_intervals(
    scores: npt.NDArray[np.floating[Any]],
    truth: npt.NDArray[np.integer[Any]],
    subject_ids: Sequence[str],
    *,
    level: float = 0.95,
    repeats: int = 500,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap interval of each metric, drawing whole subjects with replacement.

    Args as :func:`classification_metrics`; ``subject_ids`` (n,) says whose image each row is.

    Raises:
        ValueError: as classification_metrics, or the number of subject_ids differs.
    """
    scores, truth = np.asarray(scores), np.asarray(truth)
    if len(subject_ids) != len(truth):
        raise ValueError(f"{len(truth)} rows but {len(subject_ids)} subject ids")
    _, owner = np.unique(np.asarray(subject_ids), return_inverse=True)
    order = np.argsort(owner, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(owner))[:-1])
    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {name: [] for name in METRICS}
    skipped = 0
    for _ in range(repeats):
        picked = generator.integers(len(rows), size=len(rows))
        sample = np.concatenate([rows[p] for p in picked])
        if len(np.unique(truth[sample])) < 2:
            skipped += 1
            continue
        for name, value in classification_metrics(scores[sample], truth[sample]).items():
            draws[name].append(value)
    tails = [50 * (1 - level), 50 * (1 + level)]
    result = {}
    for name, values in draws.items():
        low, high = np.percentile(values, tails) if values else (np.nan, np.nan)
        result[name] = Interval(float(low), float(high), repeats - skipped, skipped)
    return result
