from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medssl.errors import MedsslError
from medssl.store.named_splits import splits_of
from medssl.studies.data import ready_store, study_split, with_volumes


def test_the_volume_is_labelled_voxels_times_mm3(tmp_path):
    source = tmp_path / "in"
    (source / "labels").mkdir(parents=True)
    label = np.zeros((4, 4, 4), np.uint8)
    label[:2, 0, 0], label[3, 3, 3] = 1, 2
    turned = np.diag([-0.5, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(label, turned), source / "labels" / "a.nii.gz")
    (source / "subjects.csv").write_text("file,subject\na.nii.gz,S1\n")
    copy = with_volumes(source, tmp_path / "copy")
    table = pd.read_csv(copy / "subjects.csv")
    assert table["volume_mm3"].tolist() == pytest.approx([9.0])  # 3 voxels of 0.5 x 2 x 3
    assert "volume_mm3" not in (source / "subjects.csv").read_text()


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(MedsslError, match="INPUT_MISSING"):
        with_volumes(tmp_path, tmp_path / "copy")


def test_stated_validation_subjects_are_tested_on_where_there_is_no_test(monkeypatch):
    sides = {f"t{i}": "train" for i in range(20)} | {"v": "validation"}
    monkeypatch.setattr("medssl.studies.data.splits_of", lambda store: dict(sides))
    found = study_split(None, 0.1)
    assert found["v"] == "test"
    assert sorted(found.values()).count("validation") == 2
    assert sorted(found.values()).count("train") == 18


def test_one_key_makes_one_split_of_the_same_data(tmp_path):
    source = tmp_path / "in"
    (source / "images").mkdir(parents=True)
    rng, names = np.random.default_rng(0), [f"{i}.nii.gz" for i in range(24)]
    for name in names:
        voxels = rng.normal(100, 20, (12, 12, 12)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), source / "images" / name)
    table = "".join(f"{name},S{i}\n" for i, name in enumerate(names))
    (source / "subjects.csv").write_text("file,subject\n" + table)
    key = Path(__file__).parents[2] / "pipelines" / "public_data.key"
    first, again = (
        ready_store(source, tmp_path / n, modality="MR", key_file=key) for n in ("a", "b")
    )
    assert splits_of(first) == splits_of(again)
    assert (
        splits_of(ready_store(source, tmp_path / "c", modality="MR"))
        .keys()
        .isdisjoint(splits_of(first))
    )
