"""What a user should know at the end of an ingest, free of identifiers."""

from __future__ import annotations

from collections.abc import Sequence

from medssl.ingest.scan import Found, Kind
from medssl.ingest.tables import Tables


def notes(
    found: Sequence[Found], tables: Tables, volumes: int, text: int, resumed: bool = False
) -> list[str]:
    """Notes on an ingest.

    Args:
        found: every file.
        tables: the tables among them.
        volumes: how many were written.
        text: how many files were refused for burned-in text.
        resumed: whether an interrupted ingest went on.
    """
    told = ["Went on where an interrupted ingest had stopped."] if resumed else []
    if text:
        told.append(
            f"{text} files seem to hold burned-in text. STORE.private/quarantine lists them: look "
            "at them, and accept harmless ones with --allow BURNED_IN_TEXT."
        )
    alone = 0
    for item in found:
        if item.kind in (Kind.NIFTI, Kind.PNG):
            dataset = tables.of(item.relative)
            alone += dataset is None or not (dataset.has_subjects or dataset.broken)
    if alone:
        told.append(
            f"No table states the subjects of {alone} files: each image counts as its own "
            "subject, so two images of one patient can end on both sides of a split."
        )
    if any(item.kind is Kind.NPZ for item in found):
        told.append("An .npz states no subjects: each image counts as its own.")
    columns = sorted({n for d in tables.datasets for r in d.rows.values() for n in r.labels})
    if columns:
        told.append("Label columns taken from tables: " + ", ".join(columns))
    missing = sum(dataset.missing for dataset in tables.datasets)
    if missing:
        told.append(f"{missing} files that tables name are not there.")
    if volumes == 0:
        told.append("Nothing could be used; no store was made.")
    return told
