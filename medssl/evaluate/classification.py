"""Classification metrics, and their confidence intervals by subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

METRICS = ("auroc", "average_precision", "balanced_accuracy")

# rows times bootstrap draws that are looked at together: about 40 MB an array
_ELEMENTS = 5_000_000


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
    scores, truth = _checked(scores, truth)
    found = _weighted(scores, truth, np.ones((1, len(truth))))
    return {name: float(values[0]) for name, values in found.items()}


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
    scores, truth = _checked(scores, truth)
    if len(subject_ids) != len(truth):
        raise ValueError(f"{len(truth)} rows but {len(subject_ids)} subject ids")
    names, owner = np.unique(np.asarray(subject_ids), return_inverse=True)
    generator = np.random.default_rng(seed)
    # a subject drawn twice is a subject of weight two
    share = np.full(len(names), 1 / len(names))
    drawn = generator.multinomial(len(names), share, size=repeats)
    pieces = max(1, repeats * len(truth) // _ELEMENTS)
    parts = [_weighted(scores, truth, part[:, owner]) for part in np.array_split(drawn, pieces)]
    draws = {name: np.concatenate([part[name] for part in parts]) for name in METRICS}
    usable = np.isfinite(draws["auroc"])
    tails = [50 * (1 - level), 50 * (1 + level)]
    result = {}
    for name, values in draws.items():
        low, high = np.percentile(values[usable], tails) if usable.any() else (np.nan, np.nan)
        kept = int(usable.sum())
        result[name] = Interval(float(low), float(high), kept, repeats - kept)
    return result


def _checked(
    scores: npt.NDArray[np.floating[Any]], truth: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.integer[Any]]]:
    scores, truth = np.asarray(scores), np.asarray(truth)
    if scores.ndim != 2 or scores.shape[1] < 2 or truth.shape != scores.shape[:1] or not len(truth):
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} do not fit")
    if truth.min() < 0 or truth.max() >= scores.shape[1] or not np.isfinite(scores).all():
        raise ValueError("labels must lie in [0, classes) and scores must be finite")
    return scores, truth


def _weighted(
    scores: npt.NDArray[np.floating[Any]],
    truth: npt.NDArray[np.integer[Any]],
    weights: npt.NDArray[Any],
) -> dict[str, npt.NDArray[np.float64]]:
    """Each metric for each row of weights (draws, n); classes without weight do not count."""
    classes = range(scores.shape[1])
    predicted = scores.argmax(axis=1)
    held = np.stack([weights[:, truth == c].sum(axis=1) for c in classes])
    right = np.stack([weights[:, (truth == c) & (predicted == c)].sum(axis=1) for c in classes])
    positives = [1] if scores.shape[1] == 2 else list(classes)
    curves = [_ranked(scores[:, c], truth == c, weights) for c in positives]
    total = held.sum(axis=0)
    counted = (held[positives] > 0) & (held[positives] < total)
    return {
        "auroc": _mean(np.stack([auroc for auroc, _ in curves]), counted),
        "average_precision": _mean(np.stack([precision for _, precision in curves]), counted),
        "balanced_accuracy": _mean(right / np.maximum(held, 1e-300), held > 0),
    }


def _mean(
    values: npt.NDArray[np.float64], counted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Mean over the counted classes of (classes, draws); nan where there are none."""
    number = counted.sum(axis=0)
    total = np.where(counted, values, 0.0).sum(axis=0)
    return np.asarray(np.where(number > 0, total / np.maximum(number, 1), np.nan))


def _ranked(
    score: npt.NDArray[np.floating[Any]], positive: npt.NDArray[np.bool_], weights: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """AUROC (area under the trapezoids) and average precision (Σ ΔR P) of each draw."""
    order = np.argsort(-score, kind="stable")
    # equal scores are one threshold: look at the last of each
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    ordered = weights[:, order].astype(np.float64)
    hits = np.cumsum(ordered * positive[order], axis=1)[:, last]
    alarms = np.cumsum(ordered * ~positive[order], axis=1)[:, last]
    new_hits, new_alarms = (np.diff(x, axis=1, prepend=0.0) for x in (hits, alarms))
    pairs = np.maximum(hits[:, -1] * alarms[:, -1], 1e-300)
    auroc = (new_alarms * (hits - new_hits / 2)).sum(axis=1) / pairs
    precision = hits / np.maximum(hits + alarms, 1e-300)
    average = (new_hits * precision).sum(axis=1) / np.maximum(hits[:, -1], 1e-300)
    return auroc, average
