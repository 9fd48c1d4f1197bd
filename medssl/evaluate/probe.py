"""Linear probe: what a linear classifier reads from frozen features, with few or all labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]

# inverse strength of the L2 penalty, strongest first
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Probe:
    """Test scores (n, classes) of a linear probe, the C it chose and how it chose it."""

    scores: npt.NDArray[np.float64]
    c: float
    chosen_by: str


def linear_probe(
    train: Features,
    labels: Labels,
    subject_ids: Sequence[str],
    test: Features,
    classes: int,
    *,
    validation: tuple[Features, Labels] | None = None,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> Probe:
    """Logistic regression (L-BFGS) on standardised frozen features, scored on the test features.

    Mean and spread come from the training features; classes weigh equally however rare. C is the
    one of the lowest class-balanced log loss on ``validation``; without it, in an inner
    cross-validation by subject over the training rows; where a class has a single subject
    there is nothing to choose by, and C is 0.1. Test rows are never used to choose.

    Args:
        train: (n, d); labels: (n,) in [0, classes); subject_ids: (n,); test: (q, d).
        validation: features (m, d) and labels (m,) of other subjects.
        penalties: the values of C to choose from.

    Returns:
        A Probe with (q, classes) probabilities; a class without training rows scores 0.

    Raises:
        ValueError: fewer than two classes in ``labels``, or shapes that do not fit.
    """
    if train.ndim != 2 or len(train) != len(labels) or len(labels) != len(subject_ids):
        raise ValueError("train, labels and subject_ids must have one row per image")
    if len(np.unique(labels)) < 2:
        raise ValueError("a probe needs labels of at least two classes")
    if validation is not None and len(np.unique(validation[1])) > 1:
        folds = [(train, labels, *validation)]
        chosen_by = "validation"
    else:
        folds = _inner_folds(train, labels, subject_ids, seed)
        chosen_by = "inner cross-validation" if folds else "default"
    c = _choose(folds, penalties, classes) if folds else 0.1
    return Probe(_fit_scores(train, labels, test, c, classes), c, chosen_by)


def nested_subsets(
    subject_ids: Sequence[str],
    labels: Labels,
    fractions: Sequence[float],
    seed: int,
) -> dict[float, npt.NDArray[np.intp]]:
    """Rows kept at each label fraction: whole subjects, stratified, each subset inside the next.

    Subjects are stratified by the rarest class they carry and shuffled by the seed; a fraction
    keeps that share of each stratum, rounded, at least one. Every class that occurs in ``labels``
    occurs in every subset.

    Raises:
        ValueError: a fraction outside (0, 1], or lengths that differ.
    """
    if len(subject_ids) != len(labels) or not all(0 < f <= 1 for f in fractions):
        raise ValueError("one label per subject id, and fractions in (0, 1], are needed")
    carried: dict[str, set[int]] = {}
    for subject, label in zip(subject_ids, labels, strict=True):
        carried.setdefault(subject, set()).add(int(label))
    owners = {c: sum(c in held for held in carried.values()) for c in np.unique(labels).tolist()}
    order = sorted(carried)
    np.random.default_rng(seed).shuffle(order)
    strata: dict[int, list[str]] = {}
    for subject in order:
        rarest = min(carried[subject], key=lambda c: (owners[c], c))
        strata.setdefault(rarest, []).append(subject)
    kept: set[str] = set()
    subsets = {}
    for fraction in sorted(fractions):
        for members in strata.values():
            kept.update(members[: max(1, round(fraction * len(members)))])
        for c in owners:
            # a class whose subjects all sit in rarer strata may still be missing
            if not any(c in carried[subject] for subject in kept):
                kept.add(next(subject for subject in order if c in carried[subject]))
        subsets[fraction] = np.flatnonzero([subject in kept for subject in subject_ids])
    return subsets


def _inner_folds(
    train: Features, labels: Labels, subject_ids: Sequence[str], seed: int
) -> list[tuple[Features, Labels, Features, Labels]]:
    """Up to five stratified folds by subject; none where a class has a single subject."""
    from sklearn.model_selection import StratifiedGroupKFold

    owners = np.asarray(subject_ids)
    fewest = min(len(np.unique(owners[labels == c])) for c in np.unique(labels))
    if fewest < 2:
        return []
    splitter = StratifiedGroupKFold(min(5, fewest), shuffle=True, random_state=seed)
    return [
        (train[fit], labels[fit], train[held], labels[held])
        for fit, held in splitter.split(train, labels, owners)
        if len(np.unique(labels[fit])) > 1
    ]


def _choose(
    folds: Sequence[tuple[Features, Labels, Features, Labels]],
    penalties: Sequence[float],
    classes: int,
) -> float:
    losses = []
    for c in penalties:
        fold_losses = [
            _balanced_log_loss(_fit_scores(fit, fit_labels, held, c, classes), held_labels)
            for fit, fit_labels, held, held_labels in folds
        ]
        losses.append(float(np.mean(fold_losses)))
    # argmin takes the first, the strongest penalty, among equals
    return float(penalties[int(np.argmin(losses))])


def _fit_scores(
    train: Features, labels: Labels, queries: Features, c: float, classes: int
) -> npt.NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.astype(np.float64))
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=2000)
    model.fit(scaler.transform(train.astype(np.float64)), labels)
    scores = np.zeros((len(queries), classes))
    scores[:, model.classes_] = model.predict_proba(scaler.transform(queries.astype(np.float64)))
    return scores


def _balanced_log_loss(scores: npt.NDArray[np.float64], labels: Labels) -> float:
    """Log loss averaged within each class, then over classes."""
    own = -np.log(np.clip(scores[np.arange(len(labels)), labels], 1e-12, None))
    return float(np.mean([own[labels == c].mean() for c in np.unique(labels)]))
