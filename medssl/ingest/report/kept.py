"""What was refused together, kept in the store, so that its page can be drawn again."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.ingest.report.refused import RejectedGroup
from medssl.store import Store
from medssl.store.table import write_table

NAME = "refused.parquet"


def kept_refusals(store: Store) -> list[RejectedGroup]:
    """What ingests into a store refused together, with the pictures that were drawn then; none
    where the store has no such table."""
    return [_group(row) for row in _rows(store)]


def keep_refusals(store: Store, batch: int, groups: Sequence[RejectedGroup]) -> None:
    """Add those of one ingest to a store; what it kept of the same ingest before is replaced.

    Args:
        store: opened.
        batch: the number of the ingest.
        groups: what it refused. Their pictures are safe to show, and small
            (:func:`medssl.ingest.thumbnail.thumbnail`); the store holds nothing else of them.
    """
    rows = [row for row in _rows(store) if row["batch"] != batch]
    rows += [_row(group, batch) for group in groups]
    if rows:
        partial = store.path / f".{NAME}.partial"
        try:
            write_table(partial, rows)
            partial.replace(store.path / NAME)
        finally:
            partial.unlink(missing_ok=True)


def _rows(store: Store) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    if not (store.path / NAME).is_file():
        return []
    with pq.ParquetFile(store.path / NAME) as file:  # read_table imports pandas
        rows: list[dict[str, Any]] = file.read().to_pylist()
    return rows


def _row(group: RejectedGroup, batch: int) -> dict[str, Any]:
    picture = np.empty((0, 0), np.uint8) if group.thumbnail is None else group.thumbnail
    height, width = picture.shape
    return {
        "batch": batch,
        "code": group.code,
        "detail": group.detail,
        "files": group.files,
        "height": height,
        "width": width,
        "picture": base64.b64encode(picture.tobytes()).decode(),
    }


def _group(row: dict[str, Any]) -> RejectedGroup:
    picture: npt.NDArray[np.uint8] | None = None
    if row["height"]:
        flat = np.frombuffer(base64.b64decode(row["picture"]), np.uint8)
        picture = flat.reshape(row["height"], row["width"])
    return RejectedGroup(row["code"], row["detail"], row["files"], picture)
