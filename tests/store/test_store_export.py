from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from medssl.errors import MedsslError
from medssl.store import LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.export import export

# An oblique grid with axes to left, posterior and feet, as DICOM stacks have.
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [6, -4, 9], degrees=True).as_matrix() * [
    -0.9,
    -0.8,
    -2.4,
]
OBLIQUE[:3, 3] = 12.5, -7, 99


def record(name, **more):
    return VolumeRecord(f"vol-{name}", f"sub-{name}", "stu-1", f"ser-{name}", "MR", **more)


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    voxels = rng.integers(-900, 900, (4, 5, 6)).astype(np.int16)
    return voxels, rng.integers(0, 3, (4, 5, 6)).astype(np.uint8)


@pytest.fixture
def store(tmp_path, source):
    voxels, label = source
    flat = np.arange(12, dtype=np.int16).reshape(1, 3, 4) - 5
    with StoreWriter(tmp_path / "store", StoreInfo(label_names={1: "one", 2: "two"})) as writer:
        writer.add_volume(record("a", labels={"age": 60}), voxels[None], OBLIQUE, label)
        writer.add_volume(record("b", split="test"), voxels[None] / 3.0, OBLIQUE)
        writer.add_volume(record("c"), flat, None)
        writer.add_volume(record("d"), np.arange(36).reshape(3, 3, 4).astype(np.uint8), None)
        writer.finish([LedgerRow("f", Outcome.USED)], 1)
    return tmp_path / "store"


def test_voxels_and_affine_are_those_of_the_source(store, source, tmp_path):
    summary = export(store, tmp_path / "out")
    assert (summary.volumes, summary.labels, summary.subjects) == (4, 1, 4)
    image = nib.load(tmp_path / "out" / "images" / "vol-a.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), source[0])
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(image.affine, OBLIQUE.astype(np.float32))
    label = nib.load(tmp_path / "out" / "labels" / "vol-a.nii.gz")
    np.testing.assert_array_equal(np.asarray(label.dataobj), source[1])
    np.testing.assert_array_equal(label.affine, image.affine)
    fractions = nib.load(tmp_path / "out" / "images" / "vol-b.nii.gz")
    np.testing.assert_array_equal(np.asarray(fractions.dataobj), source[0] / 3.0)


def test_2d_is_one_slice_and_colour_is_png(store, tmp_path):
    export(store, tmp_path / "out")
    flat = nib.load(tmp_path / "out" / "images" / "vol-c.nii.gz")
    assert flat.shape == (4, 3, 1)
    assert np.asarray(flat.dataobj)[1, 2, 0] == 2 * 4 + 1 - 5
    assert (tmp_path / "out" / "images" / "vol-d.png").is_file()


def test_tables(store, tmp_path):
    export(store, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "subjects.csv", dtype=str, keep_default_na=False)
    assert list(table) == ["file", "subject", "modality", "split", "age"]
    assert table.iloc[0].tolist() == ["vol-a.nii.gz", "sub-a", "MR", "", "60"]
    assert table.iloc[1].tolist() == ["vol-b.nii.gz", "sub-b", "MR", "test", ""]
    assert (tmp_path / "out" / "labels.csv").read_text() == "value,name\n1,one\n2,two\n"


def test_only_the_volumes_asked_for(store, tmp_path):
    export(store, tmp_path / "out", volume_ids=["vol-a", "vol-a"])
    assert [p.name for p in (tmp_path / "out" / "images").iterdir()] == ["vol-a.nii.gz"]


def test_nothing_is_overwritten_or_half_written(store, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(MedsslError, match="OUT_EXISTS"):
        export(store, tmp_path / "out")
    with pytest.raises(MedsslError, match="VOLUME_UNKNOWN"):
        export(store, tmp_path / "new", volume_ids=["vol-z"])
    (store / "arrays" / "vol-b.npy").unlink()
    with pytest.raises(FileNotFoundError):
        export(store, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "store"]


def test_export_can_be_ingested_again(store, tmp_path):
    from medssl.ingest.run import ingest

    export(store, tmp_path / "out")
    summary = ingest(tmp_path / "out", tmp_path / "again")
    assert (summary.volumes, summary.subjects, int(summary.exit_code)) == (4, 4, 0)
    again = Store.open(tmp_path / "again")
    assert again.info.label_names == {1: "one", 2: "two"}
    assert sorted(again.manifest["sha256"]) == sorted(Store.open(store).manifest["sha256"])


@pytest.mark.data
def test_real_hippocampus_round_trip(data_root, tmp_path):
    import csv

    from medssl.ingest.run import ingest

    source = tmp_path / "in"
    names = sorted(p.name for p in (data_root / "hippocampus" / "images").iterdir())[:12]
    for kind in ("images", "labels"):
        (source / kind).mkdir(parents=True)
        for name in names:
            (source / kind / name).write_bytes(
                (data_root / "hippocampus" / kind / name).read_bytes()
            )
    ingest(source, tmp_path / "store")
    export(tmp_path / "store", tmp_path / "out")
    with (tmp_path / "store.private" / "ledger.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24
    for row in rows:
        kind = row["real_path"].split("/")[0]
        before = nib.load(source / row["real_path"])
        after = nib.load(tmp_path / "out" / kind / f"{row['volume_id']}.nii.gz")
        np.testing.assert_array_equal(before.get_fdata(), after.get_fdata())
        np.testing.assert_array_equal(before.affine, after.affine)
