"""Ridge probe: what a linear regression reads from frozen features, with few or all labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medssl.evaluate.probe import Features

Numbers = npt.NDArray[np.float64]

# of the L2 penalty, strongest first
STRENGTHS = (1e4, 1e3, 1e2, 1e1, 1.0, 0.1)
_DEFAULT = 100.0


def ridge_probe(
    train: Features,
    numbers: Numbers,
    subject_ids: Sequence[str],
    test: Features,
    *,
    validation: tuple[Features, Numbers] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Numbers:
    """Ridge regression on standardised frozen features (Hoerl and Kennard 1970, eq. 2.1).

    Mean and spread come from the training features. The penalty is that of the least squared error
    on ``validation``; without it, in an inner cross-validation by subject over the training rows;
    with a single training subject there is nothing to choose by, and it is 100.

    Args:
        train: (n, d); numbers: (n,) to predict; subject_ids: (n,); test: (q, d).
        validation: features (m, d) and numbers (m,) of other subjects.
        strengths: of the penalty, to choose from.

    Returns:
        (q,) predictions, in the unit of ``numbers``.

    Raises:
        ValueError: shapes that do not fit, or nothing to learn from.
    """
    if train.ndim != 2 or not len(train) == len(numbers) == len(subject_ids) or not len(train):
        raise ValueError("train, numbers and subject_ids must have one row per image")
    if validation is not None and len(validation[1]):
        folds = [(train, numbers, *validation)]
    else:
        folds = _inner_folds(train, numbers, subject_ids)
    strength = _DEFAULT
    if folds:
        errors = [
            np.mean([np.square(_predict(x, y, q, s) - held).mean() for x, y, q, held in folds])
            for s in strengths
        ]
        # argmin takes the first, the strongest penalty, among equals
        strength = strengths[int(np.argmin(errors))]
    return _predict(train, numbers, test, strength)


def _inner_folds(
    train: Features, numbers: Numbers, subject_ids: Sequence[str]
) -> list[tuple[Features, Numbers, Features, Numbers]]:
    """Up to five folds by subject; none where there is one subject."""
    from sklearn.model_selection import GroupKFold

    subjects = len(set(subject_ids))
    if subjects < 2:
        return []
    parts = GroupKFold(min(5, subjects)).split(train, numbers, list(subject_ids))
    return [(train[fit], numbers[fit], train[held], numbers[held]) for fit, held in parts]


def _predict(train: Features, numbers: Numbers, queries: Features, strength: float) -> Numbers:
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.astype(np.float64))
    model = Ridge(alpha=strength).fit(scaler.transform(train.astype(np.float64)), numbers)
    return np.asarray(model.predict(scaler.transform(queries.astype(np.float64))), np.float64)
