"""Probes of several encoders on the same labels, and what their differences say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from medssl.evaluate.classification import METRICS, bootstrap_intervals, classification_metrics
from medssl.evaluate.knn import knn_scores
from medssl.evaluate.probe import linear_probe, nested_subsets
from medssl.evaluate.stats import paired_interval, verdict
from medssl.progress import track

PROBES = ("linear", "knn")

# enough for a 95 % interval; one is drawn for every row of the first seed
_BOOTSTRAPS = 300


@dataclass(frozen=True)
class Rows:
    """What the probes learn, the same for every encoder: a class, a subject and a split
    ("train", "validation" or "test") for each feature row."""

    labels: npt.NDArray[np.int64]
    subject_ids: list[str]
    split: npt.NDArray[np.str_]
    classes: list[str]

    def where(self, split: str) -> npt.NDArray[np.intp]:
        """Positions of one split's rows."""
        return np.flatnonzero(self.split == split)

    def subjects(self, split: str) -> list[str]:
        """The subjects of a split, sorted."""
        return sorted({self.subject_ids[i] for i in self.where(split)})


def probe_table(
    arms: dict[str, Sequence[npt.NDArray[np.float32]]],
    rows: Rows,
    fractions: Sequence[float],
    seeds: int,
) -> pd.DataFrame:
    """One line per arm, probe, label fraction and seed.

    A seed chooses the labelled subjects, the same ones in every arm, so arms are paired. The
    fraction holds for the validation labels too, by which the linear probe chooses its penalty.

    Args:
        arms: name -> features (n, d), one array for each seed.
        rows: what the features belong to.
        fractions: shares of the training subjects whose labels are used.
        seeds: how many draws of labelled subjects.

    Returns:
        columns arm, probe, fraction, seed, labelled_subjects, labelled_rows, c, chosen_by, the
        metrics on the test rows, and auroc_low and auroc_high, a 95 % bootstrap interval by test
        subject (first seed only).
    """
    lines: list[dict[str, Any]] = []
    known: dict[tuple[int, str, bytes], dict[str, Any]] = {}
    work = [(s, f) for s in range(seeds) for f in fractions]
    chosen = {s: labelled_subsets(rows, fractions, s) for s in range(seeds)}
    for seed, fraction in track(work, "probes"):
        train, held = chosen[seed][fraction]
        for arm, features in arms.items():
            for probe in PROBES:
                # the same encoder on the same rows gives the same answer: at 100 %, every seed
                key = (id(features[seed]), probe, train.tobytes())
                if key not in known:
                    known[key] = probe_metrics(probe, features[seed], rows, train, held, seed == 0)
                lines.append(
                    {"arm": arm, "probe": probe, "fraction": fraction, "seed": seed, **known[key]}
                )
    return pd.DataFrame(lines)


def difference_table(
    table: pd.DataFrame, arm: str = "pretrained", control: str = "random"
) -> pd.DataFrame:
    """Mean paired difference arm - control over seeds, its 95 % t interval, and the verdict.

    Args:
        table: as :func:`probe_table` returns.
        arm, control: which arms to compare.

    Returns:
        columns probe, fraction, metric, arm, control, mean, low, high, pairs, verdict.
    """
    lines = []
    for (probe, fraction), part in table.groupby(["probe", "fraction"], sort=False):
        pair = [part[part["arm"] == name].set_index("seed").sort_index() for name in (arm, control)]
        for metric in METRICS:
            found = paired_interval(pair[0][metric].to_numpy(), pair[1][metric].to_numpy())
            lines.append(
                {
                    "probe": probe,
                    "fraction": fraction,
                    "metric": metric,
                    "arm": arm,
                    "control": control,
                    "mean": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "pairs": found.pairs,
                    "verdict": verdict(found),
                }
            )
    return pd.DataFrame(lines)


def labelled_subsets(
    rows: Rows, fractions: Sequence[float], seed: int
) -> dict[float, tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Labelled train and validation rows at each fraction, as :func:`nested_subsets` draws them."""
    picked = []
    for split in ("train", "validation"):
        where = rows.where(split)
        subjects = [rows.subject_ids[i] for i in where]
        subsets = nested_subsets(subjects, rows.labels[where], fractions, seed)
        picked.append({fraction: where[subset] for fraction, subset in subsets.items()})
    return {fraction: (picked[0][fraction], picked[1][fraction]) for fraction in fractions}


def probe_metrics(
    probe: str,
    features: npt.NDArray[np.float32],
    rows: Rows,
    train: npt.NDArray[np.intp],
    held: npt.NDArray[np.intp],
    with_interval: bool = False,
) -> dict[str, Any]:
    """One probe, learned on some rows and measured on the test rows.

    Args:
        probe: one of :data:`PROBES`.
        features: (n, d), of all rows.
        rows: what the features belong to.
        train: positions of the labelled training rows; held: of the labelled validation rows.
        with_interval: also bootstrap the AUROC by test subject.

    Returns:
        what :func:`probe_table` has of one line.
    """
    test, classes = rows.where("test"), len(rows.classes)
    subjects = [rows.subject_ids[i] for i in train]
    line: dict[str, Any] = {
        "labelled_subjects": len(set(subjects)),
        "labelled_rows": len(train),
        "c": float("nan"),
        "chosen_by": "",
    }
    if probe == "linear":
        validation = (features[held], rows.labels[held]) if len(held) else None
        found = linear_probe(
            features[train], rows.labels[train], subjects, features[test], classes,
            validation=validation,
        )  # fmt: skip
        scores = found.scores
        line |= {"c": found.c, "chosen_by": found.chosen_by}
    else:
        bank, queries = (torch.from_numpy(features[part]) for part in (train, test))
        votes = knn_scores(bank, torch.from_numpy(rows.labels[train]), queries, classes)
        scores = votes.double().numpy()
    truth = rows.labels[test]
    line |= classification_metrics(scores, truth)
    low = high = float("nan")
    if with_interval:
        owners = [rows.subject_ids[i] for i in test]
        interval = bootstrap_intervals(scores, truth, owners, repeats=_BOOTSTRAPS)["auroc"]
        low, high = interval.low, interval.high
    return line | {"auroc_low": low, "auroc_high": high}
