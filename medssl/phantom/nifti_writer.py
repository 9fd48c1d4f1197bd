"""Write labelled phantoms as NIfTI: images/, labels/, subjects.csv and labels.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from medssl.phantom.patient import Phantom


def write_folder(
    phantoms: Sequence[Phantom], out: Path, splits: Mapping[str, str] | None = None
) -> list[Path]:
    """Write `out`/images/ID.nii.gz, `out`/labels/ID.nii.gz and two tables.

    Images are int16, label maps uint8, both with the phantom's affine in qform and sform.
    subjects.csv has the columns file, subject and modality, and split where `splits` (patient ID
    -> split) is given; labels.csv has value and name of the label maps. Returns the image files.
    Raises FileExistsError where the folder is there already, ValueError for phantoms of two kinds.
    """
    names = [phantom.label_names for phantom in phantoms]
    if any(other != names[0] for other in names):
        raise ValueError("phantoms of one folder must share their label names")
    (out / "images").mkdir(parents=True)
    (out / "labels").mkdir()
    rows = []
    for phantom in phantoms:
        name = f"{phantom.patient_id}.nii.gz"
        _save(phantom.image[0], phantom.affine, out / "images" / name)
        _save(phantom.label[0], phantom.affine, out / "labels" / name)
        row = {"file": name, "subject": phantom.patient_id, "modality": phantom.modality}
        rows.append(row | ({"split": splits[phantom.patient_id]} if splits is not None else {}))
    _table(out / "subjects.csv", rows)
    pairs = [{"value": str(value), "name": name} for value, name in names[0].items()]
    _table(out / "labels.csv", pairs)
    return [out / "images" / row["file"] for row in rows]


def _save(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
