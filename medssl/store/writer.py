"""Writing a store: beside its final place, and moved there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medssl.errors import MedsslError
from medssl.store.arrays import smallest_lossless, write_array
from medssl.store.grid import spacing_of, to_canonical
from medssl.store.intensity import statistics
from medssl.store.reader import Store
from medssl.store.records import LABEL_PREFIX, LedgerRow, StoreInfo, VolumeRecord

Array = npt.NDArray[Any]


class StoreWriter:
    """Builds a store in a hidden folder beside ``path`` and renames it there at :meth:`finish`.

    Used as a context manager it removes what it built when an exception passes.

    Raises:
        MedsslError: STORE_EXISTS where ``path`` exists.
    """

    def __init__(self, path: Path, info: StoreInfo) -> None:
        if path.exists():
            raise MedsslError(
                "STORE_EXISTS",
                "The store already exists",
                where=path.name,
                fix="Give another name, or move the old store away.",
            )
        self._path, self._info = path, info
        self._work = path.parent / f".{path.name}.partial-{os.getpid()}"
        shutil.rmtree(self._work, ignore_errors=True)
        for folder in ("arrays", "labels"):
            (self._work / folder).mkdir(parents=True)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()

    def abort(self) -> None:
        """Remove everything written so far."""
        shutil.rmtree(self._work, ignore_errors=True)

    def set_label_names(self, names: dict[int, str]) -> None:
        """State the names of the label values, once they are known."""
        self._info = self._info.model_copy(update={"label_names": names})

    def set_deidentification(self, record: dict[str, Any]) -> None:
        """State how the store was de-identified, once it is known what was accepted."""
        self._info = self._info.model_copy(update={"deidentification": record})

    def add_volume(
        self,
        record: VolumeRecord,
        array: Array,
        affine: Array | None,
        label: Array | None = None,
        pixel_spacing: tuple[float, float] | None = None,
    ) -> None:
        """Write one volume, reoriented to closest RAS+.

        Args:
            record: its ids and labels.
            array: (channel, x, y, z) with ``affine``, or (channel, row, column) without.
            affine: 4x4, voxel to RAS mm; None for a 2D image.
            label: (x, y, z) or (1, x, y, z) (2D: (row, column)) on the same grid, whole numbers.
            pixel_spacing: of a 2D image, mm between rows and between columns; 1 mm where None.

        Raises:
            MedsslError: VOXELS_INVALID, VOLUME_EMPTY, LABEL_GRID_MISMATCH, LABEL_INVALID,
                DISK_FULL.
        """
        _check_voxels(array, record.volume_id)
        label = None if label is None else _as_label(label, array, record.volume_id)
        codes = ""
        flat = np.diag([*(pixel_spacing or (1.0, 1.0)), 1.0, 1.0])
        grid = flat if affine is None else np.asarray(affine, dtype=np.float64)
        if affine is not None:
            if label is not None:
                label, _, _ = to_canonical(label, grid)
            array, grid, codes = to_canonical(array, grid)
        stored = smallest_lossless(array)
        row: dict[str, Any] = {
            **{key: value for key, value in asdict(record).items() if key != "labels"},
            "dims": array.ndim - 1,
            "channels": array.shape[0],
            "shape": [int(n) for n in array.shape[1:]],
            "spacing": list(spacing_of(grid))[: array.ndim - 1],
            "affine": [float(v) for v in grid.ravel()],
            "dtype": str(stored.dtype),
            **statistics(stored),
            "array": f"arrays/{record.volume_id}.npy",
            "label_array": "" if label is None else f"labels/{record.volume_id}.npy",
            "source_orientation": codes,
            **{LABEL_PREFIX + name: value for name, value in record.labels.items()},
        }
        try:
            row["sha256"] = write_array(self._work / row["array"], stored)
            if label is not None:
                row["label_sha256"] = write_array(
                    self._work / row["label_array"], smallest_lossless(label)
                )
        except OSError as error:
            raise _disk(error) from None
        self._rows.append(row)

    def finish(self, ledger: Sequence[LedgerRow], files_found: int) -> Store:
        """Write manifest, ledger and ``store.json``, and move the store to its place.

        Raises:
            MedsslError: NOTHING_USABLE without volumes; LEDGER_MISMATCH where the ledger does
                not have one row per file found.
        """
        if len(ledger) != files_found or len({row.path for row in ledger}) != files_found:
            raise MedsslError(
                "LEDGER_MISMATCH",
                f"{files_found} files were found and the ledger has {len(ledger)} rows",
                fix="This is a bug in medssl; please report it.",
            )
        if not self._rows:
            raise MedsslError("NOTHING_USABLE", "No volume could be made of the input")
        manifest = pd.DataFrame(self._rows).sort_values("volume_id", ignore_index=True)
        if "label_sha256" not in manifest:
            manifest["label_sha256"] = ""
        manifest["label_sha256"] = manifest["label_sha256"].fillna("")
        rows = sorted((asdict(row) for row in ledger), key=lambda row: row["path"])
        columns = ["path", "outcome", "code", "detail", "volume_id"]
        try:
            manifest.to_parquet(self._work / "manifest.parquet", index=False)
            table = pd.DataFrame(rows, columns=columns).astype(str)
            table.to_parquet(self._work / "ledger.parquet", index=False)
            text = self._info.model_dump_json(indent=2) + "\n"
            (self._work / "store.json").write_text(text, encoding="utf-8")
            self._work.rename(self._path)
        except OSError as error:
            raise _disk(error) from None
        return Store.open(self._path)


def _check_voxels(array: Array, volume_id: str) -> None:
    if array.ndim not in (3, 4) or array.size == 0:
        raise MedsslError("VOLUME_EMPTY", "The image has no voxels", where=volume_id)
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise MedsslError("VOXELS_INVALID", "The image holds NaN or infinity", where=volume_id)
    if array.min() == array.max():
        raise MedsslError("VOLUME_EMPTY", "All voxels have one value", where=volume_id)


def _as_label(label: Array, array: Array, volume_id: str) -> Array:
    label = label if label.ndim == array.ndim else label[None]
    if label.shape[1:] != array.shape[1:]:
        raise MedsslError(
            "LABEL_GRID_MISMATCH",
            f"The label map is {label.shape[1:]} and the image {array.shape[1:]}",
            where=volume_id,
        )
    whole = np.rint(label) if np.issubdtype(label.dtype, np.floating) else label
    if not np.array_equal(whole, label) or whole.min() < 0 or whole.max() > 65535:
        raise MedsslError("LABEL_INVALID", "Label values are whole and 0 to 65535", where=volume_id)
    return whole.astype(np.uint16)


def _disk(error: OSError) -> MedsslError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MedsslError("DISK_FULL", "The disk is full", fix="Free space and run again.")
    return MedsslError("STORE_INVALID", f"The store could not be written: {error.strerror}")
