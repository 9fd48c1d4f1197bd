"""What label maps in files were annotated for."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medssl.ingest.run import ingest
from medssl.store import Store
from medssl.store.export import export


def pair(folder, name, values, seed):
    """An image and a label map with values, below ``images`` and ``labels``."""
    rng = np.random.default_rng(seed)
    arrays = {
        "images": rng.integers(0, 900, (5, 6, 7)),
        "labels": rng.choice([0, *values], (5, 6, 7)),
    }
    for kind, array in arrays.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(array.astype(np.int16), np.eye(4))
        image.set_sform(np.eye(4), 1)
        nib.save(image, folder / kind / f"{name}.nii.gz")


def labelled(store, private):
    """Label values by the real path of the image."""
    table = pd.read_csv(private / "ledger.csv")
    images = table[table["real_path"].str.contains("images/") & (table["outcome"] == "used")]
    rows = zip(images["real_path"], images["volume_id"], strict=True)
    return {path: list(store[name].row["labelled"]) for path, name in rows}


@pytest.fixture
def root(tmp_path):
    """Two data sets that were annotated for different organs, and one that does not say."""
    pair(tmp_path / "in" / "livers", "a", [1], 1)
    (tmp_path / "in" / "livers" / "labels.csv").write_text("value,name\n0,background\n1,liver\n")
    pair(tmp_path / "in" / "bodies", "b", [2], 2)
    (tmp_path / "in" / "bodies" / "labels.csv").write_text("value,name\n2,spleen\n3,pancreas\n")
    return tmp_path / "in"


def test_a_data_set_was_annotated_for_the_values_that_its_table_names(root, tmp_path):
    pair(root / "silent", "c", [1, 2], 3)
    ingest(root, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert labelled(store, tmp_path / "store.private") == {
        "livers/images/a.nii.gz": [1],
        "bodies/images/b.nii.gz": [2, 3],
        "silent/images/c.nii.gz": [],
    }
    assert store.info.label_names == {1: "liver", 2: "spleen", 3: "pancreas"}


def test_the_column_of_a_table_says_it_image_by_image_and_export_keeps_it(root, tmp_path):
    pair(root / "bodies", "d", [2], 4)
    pair(root / "bodies", "e", [3], 5)
    table = "file,subject,labelled\nb.nii.gz,p1,3 2\nd.nii.gz,p2,2\ne.nii.gz,p3,\n"
    (root / "bodies" / "subjects.csv").write_text(table)
    ingest(root, tmp_path / "store")
    expected = {
        "livers/images/a.nii.gz": [1],
        "bodies/images/b.nii.gz": [2, 3],
        "bodies/images/d.nii.gz": [2],
        "bodies/images/e.nii.gz": [],
    }
    store = Store.open(tmp_path / "store")
    assert labelled(store, tmp_path / "store.private") == expected
    export(tmp_path / "store", tmp_path / "out")
    ingest(tmp_path / "out", tmp_path / "again")
    again = labelled(Store.open(tmp_path / "again"), tmp_path / "again.private")
    assert sorted(again.values()) == sorted(expected.values())


def test_a_value_that_is_there_was_looked_for(root, tmp_path):
    (root / "livers" / "subjects.csv").write_text("file,subject,labelled\na.nii.gz,p1,4\n")
    ingest(root / "livers", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert list(labelled(store, tmp_path / "store.private").values()) == [[1, 4]]


@pytest.mark.parametrize("cell", ["liver", "0", "-1", "1.5"])
def test_other_than_label_values_refuse_the_table(root, tmp_path, cell):
    (root / "livers" / "subjects.csv").write_text(f"file,subject,labelled\na.nii.gz,p1,{cell}\n")
    summary = ingest(root / "livers", tmp_path / "store")
    assert summary.counts[("rejected", "TABLE_INVALID")] == 1
    assert not (tmp_path / "store").exists()


def test_one_image_under_two_annotations_is_a_conflict(root, tmp_path):
    pair(root / "livers", "b", [1], 1)
    table = "file,subject,labelled\na.nii.gz,p1,1\nb.nii.gz,p1,1 2\n"
    (root / "livers" / "subjects.csv").write_text(table)
    summary = ingest(root / "livers", tmp_path / "store")
    assert summary.counts[("rejected", "DUPLICATE_CONFLICT")] == 2
