"""A store, or some of its volumes, back as NIfTI files."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from medssl.errors import MedsslError
from medssl.progress import track
from medssl.store.grid import from_canonical
from medssl.store.original import OriginalGrid, to_original
from medssl.store.reader import Store, Volume
from medssl.store.records import LABEL_PREFIX

Array = npt.NDArray[Any]

_SCANNER_ANATOMICAL = 1  # NIfTI-1 code of a transform to scanner coordinates
_NIFTI_KINDS = {"float16": np.float32, "bool": np.uint8}


@dataclass(frozen=True)
class ExportSummary:
    """How many volumes, label maps and subjects were written."""

    volumes: int
    labels: int
    subjects: int


def export(
    store_path: Path,
    out: Path,
    *,
    volume_ids: Sequence[str] | None = None,
    original_grid: bool = False,
) -> ExportSummary:
    """Write ``images/VOLUME.nii.gz``, ``labels/VOLUME.nii.gz`` and the tables that ingest reads.

    Voxels and affine are those of the source, in its orientation. A volume that ingest resampled
    (a tilted gantry, uneven spacing) is written as it is stored, or, with ``original_grid``, on the
    slices it was made of: images linearly, label maps by nearest neighbour. The affine is then
    sheared. No NIfTI can say that slices are unevenly spaced: those have no coded geometry, and
    ``images/VOLUME.json`` has ``affine`` (16 numbers, column, row and millimetres along the normal
    to RAS mm) and ``positions`` (one per slice, mm). A 2D image becomes one slice
    along z, its columns along x and its rows along y, with no coded geometry; 2D colour becomes a
    PNG. ``subjects.csv`` has the pseudonyms, splits and label columns; ``labels.csv`` the names of
    label values. ``out`` appears whole or not at all.

    Args:
        store_path: a store.
        out: the folder to make.
        volume_ids: which volumes; all by default.
        original_grid: put resampled volumes back on the slices they were made of.

    Raises:
        MedsslError: OUT_EXISTS, VOLUME_UNKNOWN, and those of :meth:`Store.open`.
    """
    store_path, out = Path(store_path), Path(out)
    if out.exists():
        raise MedsslError("OUT_EXISTS", "The output already exists", where="OUT")
    store = Store.open(store_path)
    chosen = [store[name] for name in (store if volume_ids is None else dict.fromkeys(volume_ids))]
    work = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        (work / "images").mkdir(parents=True)
        rows = [_write_volume(work, volume, original_grid) for volume in track(chosen, "Export")]
        _write_tables(work, store, chosen, rows)
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return ExportSummary(
        len(chosen), sum(v.has_label for v in chosen), len({v.subject_id for v in chosen})
    )


def _write_volume(work: Path, volume: Volume, original_grid: bool) -> str:
    """Write one volume and its label map; returns the image's file name."""
    array, label = np.asarray(volume.array()), volume.label()
    if volume.dims == 2 and array.shape[0] == 3 and label is None and array.dtype == np.uint8:
        from PIL import Image

        name = f"{volume.volume_id}.png"
        Image.fromarray(np.moveaxis(array, 0, -1)).save(work / "images" / name)
        return name
    name = f"{volume.volume_id}.nii.gz"
    grid = OriginalGrid.of_row(volume.row) if original_grid else None
    pairs = [("images", array)] if label is None else [("images", array), ("labels", label)]
    for folder, voxels in pairs:
        (work / folder).mkdir(exist_ok=True)
        path = work / folder / name
        if grid is None:
            _save(path, *_source_grid(volume, np.asarray(voxels)), volume.dims == 3)
        else:
            _save_original(path, volume, np.asarray(voxels), grid, 0 if folder == "labels" else 1)
    return name


def _save_original(
    path: Path, volume: Volume, array: Array, grid: OriginalGrid, order: int
) -> None:
    """Write an image or label map on the slices its volume was made of."""
    lowest = float(volume.row["min"]) if order else 0
    slices = to_original(array, volume.affine, grid, order=order, outside=lowest)
    if not grid.positions:
        _save(path, slices, grid.matrix, placed=True)
        return
    sides = [*np.linalg.norm(grid.matrix[:3, :2], axis=0), np.diff(grid.positions).mean(), 1.0]
    _save(path, slices, np.diag(sides), placed=False)
    text = json.dumps({"affine": list(grid.affine), "positions": list(grid.positions)})
    path.with_name(f"{volume.volume_id}.json").write_text(text + "\n", encoding="utf-8")


def _source_grid(volume: Volume, array: Array) -> tuple[Array, Array]:
    """(channel, x, y, z) and affine as they were in the source."""
    if volume.dims == 2:
        rows, columns = volume.spacing
        return array.transpose(0, 2, 1)[..., None], np.diag([columns, rows, 1.0, 1.0])
    return from_canonical(array, volume.affine, volume.source_orientation)


def _save(path: Path, array: Array, affine: Array, placed: bool) -> None:
    """Write (channel, x, y, z); ``placed`` where the affine says where it lies in the patient."""
    array = array.astype(_NIFTI_KINDS.get(str(array.dtype), array.dtype), copy=False)
    data = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    code = _SCANNER_ANATOMICAL if placed else 0
    image.set_sform(affine, code)
    nib.save(image, path)


def _write_tables(work: Path, store: Store, volumes: Sequence[Volume], files: list[str]) -> None:
    labels = store.label_columns()
    # Without the column, the names in labels.csv would say that every volume was annotated for all.
    stated = [] if all(len(v.row["labelled"]) == 0 for v in volumes) else ["labelled"]
    header = ["file", "subject", "modality", "split", *stated, *labels]
    table = [
        [
            file,
            volume.subject_id,
            volume.modality,
            volume.row["split"],
            *(" ".join(map(str, volume.row[name])) for name in stated),
            *(_cell(volume.row[LABEL_PREFIX + name]) for name in labels),
        ]
        for file, volume in zip(files, volumes, strict=True)
    ]
    _write_csv(work / "subjects.csv", header, table)
    if store.info.label_names:
        _write_csv(work / "labels.csv", ["value", "name"], store.info.label_names.items())


def _cell(value: Any) -> str:
    if value is None or pd.isna(value):
        return ""
    # Parquet turns whole numbers with gaps into floats; write them as they were.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
