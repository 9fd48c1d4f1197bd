"""Metrics of predicted numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def regression_metrics(
    predicted: npt.NDArray[np.floating[Any]], truth: npt.NDArray[np.floating[Any]]
) -> dict[str, float]:
    """How near predictions come to the truth.

    Args:
        predicted: (n,), in the target's unit.
        truth: (n,), in the same unit.

    Returns:
        ``mae``, the mean absolute error in that unit; ``r``, Pearson's correlation; ``r2``, the
        coefficient of determination: 1 - sum of squared errors / sum of squares about the truth's
        mean, so 0 for predicting that mean and negative for worse. r and r2 are nan where they are
        not defined (a constant, or fewer than two values).

    Raises:
        ValueError: shapes do not fit, nothing is there, or a value is not finite.
    """
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if p.ndim != 1 or p.shape != t.shape or not len(p):
        raise ValueError(f"predictions {p.shape} and truth {t.shape} do not fit")
    if not (np.isfinite(p).all() and np.isfinite(t).all()):
        raise ValueError("predictions and truth must be finite")
    from_mean, spread = t - t.mean(), p - p.mean()
    total, own = float(from_mean @ from_mean), float(spread @ spread)
    errors = t - p
    return {
        "mae": float(np.abs(errors).mean()),
        "r": float(from_mean @ spread) / math.sqrt(total * own) if total * own > 0 else math.nan,
        "r2": 1.0 - float(errors @ errors) / total if total > 0 else math.nan,
    }
