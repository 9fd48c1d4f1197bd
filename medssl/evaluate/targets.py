"""What the store's labels say: classes or numbers of whole volumes, or label maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medssl.errors import MedsslError
from medssl.store import Store
from medssl.store.records import LABEL_PREFIX


def segmentation_volumes(store: Store) -> list[str]:
    """Volumes with a label map.

    Raises:
        MedsslError: LABEL_MISSING.
    """
    table = store.manifest
    found: list[str] = table[table["label_array"] != ""]["volume_id"].tolist()
    if not found or not store.info.label_names:
        raise MedsslError(
            "LABEL_MISSING", "The store has no label maps", fix="Ingest images with labels."
        )
    return found


def annotated_values(store: Store, volume_ids: Sequence[str]) -> dict[str, frozenset[int]]:
    """The label values that each volume was annotated for, of those that the store names.

    Where no volume states it, all of them: each label map then counts as complete.

    Args:
        store: the store.
        volume_ids: volumes with a label map.

    Raises:
        MedsslError: LABEL_UNSTATED where some volumes state it and others do not.
    """
    every = frozenset(store.info.label_names)
    stated = {v: frozenset(int(n) for n in store[v].row["labelled"]) for v in volume_ids}
    silent = [v for v, values in stated.items() if not values]
    if silent and len(silent) < len(stated):
        raise MedsslError(
            "LABEL_UNSTATED",
            f"{len(silent)} of {len(stated)} label maps do not state what they were annotated for",
            where=silent[0],
            fix="Name the label values of their data set in a labels.csv, or use stores apart.",
        )
    return dict.fromkeys(stated, every) if silent else {v: n & every for v, n in stated.items()}


def partly_annotated(store: Store, volume_ids: Sequence[str]) -> set[str]:
    """The volumes that were not annotated for every structure of the store: what their label map
    leaves unmarked may be one of the others.

    Raises:
        MedsslError: LABEL_UNSTATED.
    """
    found = annotated_values(store, volume_ids)
    return {v for v, values in found.items() if len(values) < len(store.info.label_names)}


def class_targets(store: Store, label: str | None) -> tuple[str, list[str], dict[str, int]]:
    """The label's name, its classes in order, and the class of each volume that has one.

    Raises:
        MedsslError: LABEL_MISSING where the name is unknown, or not given and not unique, or the
            label has a single class.
    """
    label, column = _label_column(store, label)
    classes = sorted(column.unique().tolist())
    if len(classes) < 2:
        raise MedsslError("LABEL_MISSING", "The label has fewer than two classes", where=label)
    order = {value: i for i, value in enumerate(classes)}
    targets = {str(volume_id): order[value] for volume_id, value in column.items()}
    return label, [_text(value) for value in classes], targets


def number_targets(store: Store, label: str | None) -> tuple[str, dict[str, float]]:
    """The target's name, and the number of each volume that has one.

    Args:
        store: the store.
        label: the name; may be None where the store has a single label.

    Raises:
        MedsslError: LABEL_MISSING where the name is unknown, or not given and not unique, or where
            a value is no finite number.
    """
    label, column = _label_column(store, label)
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = int((~np.isfinite(numbers)).sum())
    if wrong or column.empty:
        text = f"{wrong} of its {len(column)} values are no numbers" if wrong else "It has no value"
        raise MedsslError("LABEL_MISSING", text, where=label)
    return label, {str(volume_id): float(value) for volume_id, value in numbers.items()}


def _label_column(store: Store, label: str | None) -> tuple[str, pd.Series]:
    """A label's name and its values by volume, where there are any.

    Raises:
        MedsslError: LABEL_MISSING.
    """
    names = store.label_columns()
    if label is None and len(names) == 1:
        label = names[0]
    if label is None or label not in names:
        raise MedsslError(
            "LABEL_MISSING",
            "The store has no such label" if label else "State which label to learn",
            where=label or "label",
            fix=f"Its labels are: {', '.join(names) or 'none'}.",
        )
    column = store.manifest.set_index("volume_id")[LABEL_PREFIX + label].dropna()
    return label, column[column.astype(str) != ""]


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
