"""Writing a store: beside its final place, and moved there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.errors import MedsslError
from medssl.store.reader import Store
from medssl.store.records import LABEL_PREFIX, LedgerRow, StoreInfo, VolumeRecord
from medssl.store.written import Written, write_volume

Array = npt.NDArray[Any]


class StoreWriter:
    """Builds a store in a hidden folder beside ``path`` and renames it there at :meth:`finish`.

    Used as a context manager it removes what it built when an exception passes.

    Raises:
        MedsslError: STORE_EXISTS where ``path`` exists.
    """

    def __init__(self, path: Path, info: StoreInfo, work: Path | None = None) -> None:
        if path.exists():
            raise MedsslError(
                "STORE_EXISTS",
                "The store already exists",
                where=path.name,
                fix="Give another name, or move the old store away.",
            )
        self._path, self._info = path, info
        self._work = work or path.parent / f".{path.name}.partial-{os.getpid()}"
        if work is None:
            shutil.rmtree(self._work, ignore_errors=True)
        for folder in ("arrays", "labels"):
            (self._work / folder).mkdir(parents=True, exist_ok=True)
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
        try:
            written = write_volume(
                self._work, record.volume_id, array, affine, label, pixel_spacing
            )
        except OSError as error:
            raise _disk(error) from None
        self.take(record, written, self._work)

    def take(self, record: VolumeRecord, written: Written, folder: Path) -> None:
        """Make a volume that lies in a folder part of the store.

        What was taken over before an interruption is there already, and that is as good.

        Raises:
            MedsslError: DISK_FULL, STORE_INVALID.
        """
        row: dict[str, Any] = {
            **{key: value for key, value in asdict(record).items() if key != "labels"},
            **written.columns,
            "array": f"arrays/{record.volume_id}.npy",
            "label_array": f"labels/{record.volume_id}.npy" if written.label else "",
            **{LABEL_PREFIX + name: value for name, value in record.labels.items()},
        }
        for name, place in ((written.array, row["array"]), (written.label, row["label_array"])):
            if name and ((folder / name).exists() or not (self._work / place).exists()):
                try:
                    (folder / name).replace(self._work / place)
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
        rows = sorted((asdict(row) for row in ledger), key=lambda row: str(row["path"]))
        try:
            _write_table(
                self._work / "manifest.parquet",
                sorted(self._rows, key=lambda row: str(row["volume_id"])),
            )
            _write_table(self._work / "ledger.parquet", rows)
            text = self._info.model_dump_json(indent=2) + "\n"
            (self._work / "store.json").write_text(text, encoding="utf-8")
            self._work.rename(self._path)
        except OSError as error:
            raise _disk(error) from None
        return Store.open(self._path)


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A Parquet file; what a row does not have is null."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    pq.write_table(pa.table(columns), path)


def _disk(error: OSError) -> MedsslError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MedsslError("DISK_FULL", "The disk is full", fix="Free space and run again.")
    return MedsslError("STORE_INVALID", f"The store could not be written: {error.strerror}")
