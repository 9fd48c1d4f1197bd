"""What a split is balanced by, and what it keeps together: columns of the manifest, by subject."""

from __future__ import annotations

from typing import Any

import pandas as pd

from medssl.errors import MedsslError
from medssl.store.records import LABEL_PREFIX

# A column of numbers with more values than this is cut into fifths.
MOST_CLASSES = 10
UNKNOWN = "none"


def classes(column: pd.Series[Any]) -> pd.Series[Any]:
    """The values as text; many numbers become fifths ("lowest fifth", ...), absent ones "none"."""
    numbers = pd.api.types.is_numeric_dtype(column)
    if numbers and column.nunique() > MOST_CLASSES:
        names = [f"{name} fifth" for name in ("lowest", "second", "middle", "fourth", "highest")]
        place = (column.rank(pct=True) * 5 - 1e-9).fillna(-1).astype(int)
        return place.map(dict(enumerate(names))).fillna(UNKNOWN)
    return column.map(_text).fillna(UNKNOWN)


def _text(value: Any) -> str | None:
    if value is None or value != value or value == "":
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def strata(manifest: pd.DataFrame, name: str) -> dict[str, str]:
    """The stratum of every subject: its value of a label, or its values joined by " + ".

    Args:
        manifest: the store's.
        name: a label, "modality", or "label-map" (whether a volume of the subject has one).

    Raises:
        MedsslError: LABEL_MISSING.
    """
    values = class_column(manifest, name)
    pairs = pd.DataFrame({"subject": manifest["subject_id"], "value": values}).drop_duplicates()
    known = pairs["value"] != UNKNOWN
    pairs = pairs[known | ~pairs["subject"].isin(pairs[known]["subject"])]
    joined = pairs.sort_values(["subject", "value"]).groupby("subject")["value"].agg(" + ".join)
    return {str(subject): str(value) for subject, value in joined.items()}


def class_column(manifest: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A value for every volume, as :func:`strata` names them.

    Raises:
        MedsslError: LABEL_MISSING.
    """
    if LABEL_PREFIX + name in manifest:
        return classes(manifest[LABEL_PREFIX + name])
    if name == "modality":
        return classes(manifest["modality"])
    if name == "label-map":
        return (manifest["label_array"] != "").map({True: "with", False: "without"})
    labels = [
        str(c).removeprefix(LABEL_PREFIX) for c in manifest if str(c).startswith(LABEL_PREFIX)
    ]
    raise MedsslError(
        "LABEL_MISSING",
        "The store has no such label to stratify by",
        where=name,
        fix=f"There are: {', '.join([*labels, 'modality', 'label-map'])}.",
    )


def site_column(manifest: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Where every volume comes from: a column of the manifest, or of the subjects table.

    Raises:
        MedsslError: SPLIT_COLUMN_MISSING where there is none, or a volume has no value in it.
    """
    stated = name in manifest and (manifest[name] != "").any()
    column = name if stated else LABEL_PREFIX + name
    advice = f"State it for every file as the column {name} of subjects.csv, and ingest again."
    if column not in manifest:
        raise MedsslError(
            "SPLIT_COLUMN_MISSING", "The manifest has no such column", where=name, fix=advice
        )
    values = manifest[column].map(_text)
    if values.isna().any():
        raise MedsslError(
            "SPLIT_COLUMN_MISSING",
            f"{int(values.isna().sum())} volumes have no value in it",
            where=name,
            fix=advice,
        )
    return values


def same_site(manifest: pd.DataFrame, name: str) -> list[tuple[str, str]]:
    """Pairs of subjects that connect, for :func:`medssl.store.leakage.tie`, all of each value.

    A subject with volumes of two sites joins the two.

    Raises:
        MedsslError: SPLIT_COLUMN_MISSING.
    """
    values = site_column(manifest, name)
    first = manifest["subject_id"].groupby(values).transform("first")
    return list(zip(first, manifest["subject_id"], strict=True))


def summary(manifest: pd.DataFrame, split: dict[str, str]) -> list[dict[str, Any]]:
    """What is on each side: subjects, volumes, and subjects by class.

    Args:
        manifest: the store's.
        split: subject -> split.

    Returns:
        a row per split with ``split``, ``subjects``, ``volumes``, and ``classes``: label (and
        modality, and label-map where there are any) -> value -> number of subjects.
    """
    names = [str(c).removeprefix(LABEL_PREFIX) for c in manifest if str(c).startswith(LABEL_PREFIX)]
    names += [n for n in ("modality", "site", "scanner", "manufacturer") if n in manifest]
    names += ["label-map"] if (manifest["label_array"] != "").any() else []
    side = manifest["subject_id"].map(split)
    columns = {
        name: classes(manifest[name]) if name in manifest else class_column(manifest, name)
        for name in dict.fromkeys(names)
    }
    rows = []
    for name in [n for n in ORDER if n in set(split.values())] or sorted(set(split.values())):
        here = side == name
        counted = {
            key: manifest[here].groupby(values[here])["subject_id"].nunique().to_dict()
            for key, values in columns.items()
        }
        rows.append(
            {
                "split": name,
                "subjects": int(manifest[here]["subject_id"].nunique()),
                "volumes": int(here.sum()),
                "classes": {k: {str(v): int(n) for v, n in c.items()} for k, c in counted.items()},
            }
        )
    return rows


ORDER = ("train", "validation", "test")


def absent(rows: list[dict[str, Any]], by: str | None = None) -> list[str]:
    """Sentences on the classes that a split has no subject of.

    Args:
        rows: from :func:`summary`.
        by: the column that was divided by, which is meant to differ. Columns of more than ten
            values are no classes.
    """
    found = []
    for key in rows[0]["classes"] if rows else []:
        every = sorted({value for row in rows for value in row["classes"][key]} - {UNKNOWN})
        if key == by or len(every) > MOST_CLASSES:
            continue
        for row in rows:
            missing = [value for value in every if not row["classes"][key].get(value)]
            if missing:
                found.append(f"{row['split']} has no subject with {key} {', '.join(missing)}")
    return found
