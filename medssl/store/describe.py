"""What is in a store: by modality, and what became of the files."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from medssl.store.reader import Store


@dataclass(frozen=True)
class Group:
    """The volumes of one modality and number of dimensions.

    Attributes:
        shape: smallest, middle and largest size along each axis, voxels.
        spacing: smallest, middle and largest voxel along each axis, mm.
        intensity: the lowest and the highest value of all volumes; HU of CT.
        labelled: volumes with a label map.
        parts: volumes that share their series with others.
    """

    modality: str
    dims: int
    volumes: int
    subjects: int
    labelled: int
    parts: int
    shape: list[list[float]]
    spacing: list[list[float]]
    intensity: list[float]


@dataclass(frozen=True)
class Description:
    """A store at a glance; it holds pseudonyms only.

    Attributes:
        splits: volumes by split, "" where none is stated.
        defects: volumes by code of a defect that was accepted.
        files: files by outcome and code.
    """

    fingerprint: str
    volumes: int
    subjects: int
    studies: int
    series: int
    groups: list[Group]
    splits: dict[str, int]
    defects: dict[str, int]
    files: dict[str, dict[str, int]]

    def as_json(self) -> dict[str, Any]:
        """For machines: plain types only."""
        return asdict(self)


def describe(store: Store) -> Description:
    """Count and measure what the manifest and the ledger say; no voxels are read."""
    manifest, ledger = store.manifest, store.ledger
    kinds = sorted(set(zip(manifest["modality"], manifest["dims"], strict=True)))
    groups = [
        _group(modality, int(dims), rows)
        for modality, dims in kinds
        for rows in [manifest[(manifest["modality"] == modality) & (manifest["dims"] == dims)]]
    ]
    defects = manifest["defects"].explode().dropna()
    files: dict[str, dict[str, int]] = {}
    pairs = Counter(zip(ledger["outcome"], ledger["code"], strict=True))
    for (outcome, code), count in sorted(pairs.items()):
        files.setdefault(outcome, {})[code] = count
    return Description(
        fingerprint=store.fingerprint(),
        volumes=len(manifest),
        subjects=int(manifest["subject_id"].nunique()),
        studies=int(manifest["study_id"].nunique()),
        series=int(manifest["series_id"].nunique()),
        groups=groups,
        splits=_counts(manifest["split"]),
        defects=_counts(defects),
        files=files,
    )


def choose_volumes(
    manifest: pd.DataFrame,
    *,
    modality: str | None = None,
    subject: str | None = None,
    defect: str | None = None,
) -> pd.DataFrame:
    """The manifest's rows of one modality, of subjects whose pseudonym begins so, with a defect."""
    rows = manifest
    if modality is not None:
        rows = rows[rows["modality"] == modality.upper()]
    if subject is not None:
        rows = rows[rows["subject_id"].str.startswith(subject)]
    if defect is not None:
        rows = rows[[defect.upper() in list(codes) for codes in rows["defects"]]]
    return rows


def list_volumes(rows: pd.DataFrame) -> pd.DataFrame:
    """The manifest's columns that a reader wants."""
    wanted = ["volume_id", "subject_id", "modality", "part", "shape", "spacing", "split", "defects"]
    return rows[[column for column in wanted if column in rows]]


def list_files(store: Store, outcome: str | None = None, code: str | None = None) -> pd.DataFrame:
    """The ledger, or its rows of one outcome and one code."""
    rows = store.ledger
    rows = rows if outcome is None else rows[rows["outcome"] == outcome]
    return rows if code is None else rows[rows["code"] == code.upper()]


def _group(modality: str, dims: int, rows: pd.DataFrame) -> Group:
    return Group(
        modality=modality,
        dims=dims,
        volumes=len(rows),
        subjects=int(rows["subject_id"].nunique()),
        labelled=int((rows["label_array"] != "").sum()),
        parts=int((rows["part"] != "").sum()) if "part" in rows else 0,
        shape=_spread(rows["shape"]),
        spacing=_spread(rows["spacing"]),
        intensity=[float(rows["min"].min()), float(rows["max"].max())],
    )


def _spread(values: pd.Series[Any]) -> list[list[float]]:
    """Lists of one length -> for each place the smallest, middle and largest."""
    table = np.stack([np.asarray(value, dtype=np.float64) for value in values])
    ends = np.stack([table.min(0), np.median(table, axis=0), table.max(0)], axis=1)
    return [[round(float(number), 4) for number in axis] for axis in ends]


def _counts(values: pd.Series[Any]) -> dict[str, int]:
    return {str(key): int(count) for key, count in sorted(values.value_counts().items())}
