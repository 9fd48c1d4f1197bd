"""Stores made volume by volume, and looked at byte by byte."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medssl.store import StoreWriter, VolumeRecord
from medssl.store.written import write_volume


def put(
    writer: StoreWriter,
    record: VolumeRecord,
    array: np.ndarray,
    affine: np.ndarray | None,
    label: np.ndarray | None = None,
    pixel_spacing: tuple[float, float] | None = None,
) -> None:
    """Write one volume, as ingest does: its arrays apart, and then into the store.

    Args:
        writer: of the store.
        record: its ids and labels.
        array, affine, label, pixel_spacing: see :func:`medssl.store.written.write_volume`.
    """
    with TemporaryDirectory() as folder:
        place = Path(folder)
        written = write_volume(place, record.volume_id, array, affine, label, pixel_spacing)
        writer.take(record, written, place)


def bytes_of(store: Path) -> dict[str, bytes]:
    """Every file of a store by its path."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
