"""Writing a store: beside its final place, and moved there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt
import pyarrow.parquet as pq

from medssl.errors import MedsslError
from medssl.store.reader import Store
from medssl.store.records import LABEL_PREFIX, PAGE_NAME, LedgerRow, StoreInfo, VolumeRecord
from medssl.store.table import write_table
from medssl.store.written import Written, write_volume

Array = npt.NDArray[Any]


class StoreWriter:
    """Builds a store in a hidden folder beside ``path`` and renames it there at :meth:`finish`.

    Used as a context manager it removes what it built when an exception passes.

    Args:
        path: where the store will be.
        info: what ``store.json`` says.
        work: the hidden folder, which may hold what an interrupted writer left; it then stays when
            an exception passes.
        base: the tables of the store at ``path``, to add to it.

    Raises:
        MedsslError: STORE_EXISTS where ``path`` exists and is not added to.
    """

    def __init__(
        self, path: Path, info: StoreInfo, work: Path | None = None, base: Store | None = None
    ) -> None:
        if path.exists() and base is None:
            raise MedsslError(
                "STORE_EXISTS",
                "The store already exists",
                where=path.name,
                fix="Give another name, or move the old store away.",
            )
        self._path, self._info, self._base = path, info, base
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
            there = (self._work / place).exists() or (self._path / place).exists()
            if name and ((folder / name).exists() or not there):
                try:
                    (folder / name).replace(self._work / place)
                except OSError as error:
                    raise _disk(error) from None
        self._rows.append(row)

    def finish(
        self,
        ledger: Sequence[LedgerRow],
        files_found: int,
        draw: Callable[[Store], None] | None = None,
    ) -> Store:
        """Write manifest, ledger and ``store.json``, and move the store to its place.

        Args:
            ledger: a row for each file.
            files_found: how many there are.
            draw: writes the page into the store, and does not raise. A new store has it when it
                appears; one that is added to has none until it is drawn anew.

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
        if not self._rows and self._base is None:
            raise MedsslError("NOTHING_USABLE", "No volume could be made of the input")
        try:
            self._write_tables(ledger)
            if self._base is None:
                if draw is not None:
                    draw(Store.open(self._work))
                self._work.rename(self._path)
            else:
                self._move_into_store()
        except OSError as error:
            raise _disk(error) from None
        store = Store.open(self._path)
        if draw is not None and self._base is not None:
            draw(store)
        return store

    def _write_tables(self, ledger: Sequence[LedgerRow]) -> None:
        before = [] if self._base is None else list(self._base.rows())
        volumes = sorted([*before, *self._rows], key=lambda row: str(row["volume_id"]))
        files = [{**vars(row), "outcome": row.outcome.value} for row in ledger]
        if self._base is not None:
            files += pq.read_table(self._base.path / "ledger.parquet").to_pylist()
        files.sort(key=lambda row: (int(row["batch"]), str(row["path"])))
        write_table(self._work / "manifest.parquet", volumes)
        write_table(self._work / "ledger.parquet", files)
        text = self._info.model_dump_json(indent=2) + "\n"
        (self._work / "store.json").write_text(text, encoding="utf-8")

    def _move_into_store(self) -> None:
        """Arrays first and the manifest last: until it is there, the store is what it was."""
        (self._path / PAGE_NAME).unlink(missing_ok=True)
        for row in self._rows:
            for place in (row["array"], row["label_array"]):
                if place and (self._work / place).exists():
                    (self._work / place).replace(self._path / place)
        for name in ("ledger.parquet", "store.json", "manifest.parquet"):
            (self._work / name).replace(self._path / name)


def _disk(error: OSError) -> MedsslError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MedsslError("DISK_FULL", "The disk is full", fix="Free space and run again.")
    return MedsslError("STORE_INVALID", f"The store could not be written: {error.strerror}")
