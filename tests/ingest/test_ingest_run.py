from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medssl.errors import Exit, MedsslError
from medssl.ingest.run import ingest
from medssl.store import Store

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])


def nifti(path, seed=0, affine=AFFINE, values=1000, shape=(4, 5, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, values, shape).astype(np.int16)
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, 1)
    nib.save(image, path)
    return array


def ledger_of(folder):
    """Real path -> row of the private ledger."""
    with (folder / "ledger.csv").open() as stream:
        return {row["real_path"]: row for row in csv.DictReader(stream)}


def outcome(rows):
    return {path: (row["outcome"], row["code"]) for path, row in rows.items()}


@pytest.fixture
def folder(tmp_path):
    """The layout of the hippocampus set: two crops of S1, one of S2."""
    root = tmp_path / "in"
    for i, name in enumerate(("a", "b", "c")):
        nifti(root / "images" / f"{name}.nii.gz", seed=i)
        nifti(root / "labels" / f"{name}.nii.gz", seed=9 + i, values=3)
    (root / "subjects.csv").write_text(
        "file,subject,age\na.nii.gz,S1,60\nb.nii.gz,S1,61\nc.nii.gz,S2,70\n"
    )
    return root


def test_nifti_folder(folder, tmp_path):
    summary = ingest(folder, tmp_path / "store", label_names={1: "anterior"}, modality="MR")
    assert (summary.found, summary.volumes, summary.subjects) == (7, 3, 2)
    assert summary.exit_code is Exit.DONE
    store = Store.open(tmp_path / "store")
    assert store.info.label_names == {1: "anterior", 2: "label 2"}
    assert sorted(store.manifest["label:age"]) == [60, 61, 70]
    assert set(store.manifest["modality"]) == {"MR"}
    assert len(store.ledger) == 7
    rows = ledger_of(tmp_path / "store.private")
    volume = store[rows["images/a.nii.gz"]["volume_id"]]
    assert rows["labels/a.nii.gz"]["volume_id"] == volume.volume_id
    expected = nib.as_closest_canonical(nib.load(folder / "images" / "a.nii.gz"))
    np.testing.assert_array_equal(volume.array()[0], expected.get_fdata())
    np.testing.assert_allclose(volume.affine, expected.affine)
    label = nib.as_closest_canonical(nib.load(folder / "labels" / "a.nii.gz"))
    np.testing.assert_array_equal(volume.label()[0], label.get_fdata())
    same = store.manifest["subject_id"].value_counts()
    assert sorted(same) == [1, 2]


def test_same_input_and_key_give_the_same_store(folder, tmp_path):
    ingest(folder, tmp_path / "one")
    ingest(folder, tmp_path / "two", key_file=tmp_path / "one.private" / "site.key")
    ingest(folder, tmp_path / "three")
    one, two, three = (Store.open(tmp_path / name) for name in ("one", "two", "three"))
    for name in ("manifest.parquet", "ledger.parquet", "store.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    assert set(one) == set(two)
    assert not set(one) & set(three)
    assert not set(one.ledger["path"]) & set(three.ledger["path"])


def test_bad_files_are_refused_one_by_one(folder, tmp_path):
    nifti(folder / "labels" / "a.nii.gz", seed=9, values=3, shape=(4, 5, 7))
    moved = AFFINE.copy()
    moved[0, 3] = 9
    nifti(folder / "labels" / "b.nii.gz", seed=9, values=3, affine=moved)
    nifti(folder / "labels" / "orphan.nii.gz", values=3)
    nifti(folder / "images" / "unlisted.nii.gz", seed=77)
    (folder / "images" / "broken.nii.gz").write_bytes(b"no")
    (folder / "readme.txt").write_text("x")
    summary = ingest(folder, tmp_path / "store")
    assert summary.exit_code is Exit.SOME_REJECTED
    assert sum(summary.counts.values()) == summary.found == 11
    assert outcome(ledger_of(tmp_path / "store.private")) == {
        "images/a.nii.gz": ("rejected", "LABEL_GRID_MISMATCH"),
        "labels/a.nii.gz": ("rejected", "LABEL_GRID_MISMATCH"),
        "images/b.nii.gz": ("rejected", "LABEL_GRID_MISMATCH"),
        "labels/b.nii.gz": ("rejected", "LABEL_GRID_MISMATCH"),
        "images/c.nii.gz": ("used", ""),
        "labels/c.nii.gz": ("used", ""),
        "labels/orphan.nii.gz": ("rejected", "LABEL_WITHOUT_IMAGE"),
        "images/unlisted.nii.gz": ("rejected", "SUBJECT_UNKNOWN"),
        "images/broken.nii.gz": ("rejected", "FILE_UNREADABLE"),
        "readme.txt": ("ignored", "NOT_AN_IMAGE"),
        "subjects.csv": ("used", ""),
    }


def test_broken_table_means_unknown_subjects(folder, tmp_path):
    (folder / "subjects.csv").write_text("file,subject\na.nii.gz\n")
    summary = ingest(folder, tmp_path / "store")
    assert summary.exit_code is Exit.NOTHING_USABLE
    assert summary.counts == {("rejected", "SUBJECT_UNKNOWN"): 6, ("rejected", "TABLE_INVALID"): 1}


def test_table_that_names_absent_files_is_not_all_done(folder, tmp_path):
    (folder / "images" / "c.nii.gz").unlink()
    (folder / "labels" / "c.nii.gz").unlink()
    summary = ingest(folder, tmp_path / "store")
    assert summary.exit_code is Exit.SOME_REJECTED
    assert any("1 files that tables name" in note for note in summary.notes)


def test_without_a_table_each_image_is_its_own_subject_and_that_is_said(folder, tmp_path):
    (folder / "subjects.csv").unlink()
    shutil.copy(folder / "images" / "a.nii.gz", folder / "copy.nii.gz")
    (folder / "labels" / "a.nii.gz").unlink()
    summary = ingest(folder, tmp_path / "store")
    assert (summary.volumes, summary.subjects) == (3, 3)
    assert summary.counts[("duplicate", "DUPLICATE")] == 1
    assert any("its own subject" in note for note in summary.notes)


def test_same_voxels_of_two_subjects_are_refused(folder, tmp_path):
    for kind in ("images", "labels"):
        shutil.copy(folder / kind / "a.nii.gz", folder / kind / "c.nii.gz")
    ingest(folder, tmp_path / "store")
    rows = outcome(ledger_of(tmp_path / "store.private"))
    assert rows["images/a.nii.gz"] == ("used", "")
    assert rows["images/c.nii.gz"] == ("rejected", "DUPLICATE_CONFLICT")


def test_nothing_usable_leaves_no_store(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    (root / "a.txt").write_text("x")
    summary = ingest(root, tmp_path / "store")
    assert (summary.exit_code, summary.store) == (Exit.NOTHING_USABLE, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "store.private"]


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        ("none", "s", "INPUT_MISSING"),
        ("in", "in", "STORE_EXISTS"),
        ("in", "in/s", "STORE_INSIDE_INPUT"),
    ],
)
def test_wrong_places(folder, tmp_path, source, target, code):
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(MedsslError) as caught:
        ingest(tmp_path / source, tmp_path / target)
    assert caught.value.code == code
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_dicom_tree_with_labels_copies_and_text(tmp_path, write_stack):
    root = tmp_path / "in"
    write_stack(root / "Doe_Jane" / "good", series="1.1")
    write_stack(root / "Doe_Jane" / "gap", series="1.2", heights=[0, 2, 6, 8])
    write_stack(root / "single", 1, series="1.3", modality="CT")
    shutil.copytree(root / "Doe_Jane" / "good", root / "again")
    (root / "labels.csv").write_text("file,contrast\nsingle/im0_0,1\nnone.dcm,0\n")
    (root / "notes.txt").write_text("Doe^Jane")
    summary = ingest(root, tmp_path / "store")
    assert summary.counts == {
        ("duplicate", "DUPLICATE"): 4,
        ("ignored", "NOT_AN_IMAGE"): 1,
        ("rejected", "SLICE_MISSING"): 4,
        ("used", ""): 6,
    }
    store = Store.open(tmp_path / "store")
    assert sorted(store.manifest["dims"]) == [2, 3]
    flat = store.manifest[store.manifest["dims"] == 2].iloc[0]
    assert (flat["label:contrast"], flat["modality"]) == (1, "CT")
    assert summary.subjects == 1


def test_series_without_patient_is_refused(tmp_path, write_stack):
    write_stack(tmp_path / "in", PatientID="")
    assert ingest(tmp_path / "in", tmp_path / "store").counts == {
        ("rejected", "SUBJECT_UNKNOWN"): 4
    }


def test_no_identifier_reaches_the_store_or_the_summary(tmp_path, write_stack, capsys, recwarn):
    root = tmp_path / "in"
    canaries = ["Canary", "4711", "1.2.840.99", "19500203"]
    write_stack(
        root / "Canary_Jane",
        series="1.2.840.99.1",
        PatientID="MRN4711",
        PatientName="Canary^Jane",
        PatientBirthDate="19500203",
        SeriesDescription="Canary",
    )
    gap = {"series": "1.2.840.99.2", "heights": [0, 2, 6], "PatientID": "MRN4711"}
    write_stack(root / "MRN4711", **gap)
    nifti(root / "Canary.nii.gz", shape=(4, 5, 1))
    (root / "Canary.txt").write_text("x")
    (root / "Canary.dcm").write_bytes(b"Canary")
    summary = ingest(root, tmp_path / "store")
    captured = capsys.readouterr()
    texts = [json.dumps(summary.as_json()), captured.out, captured.err]
    texts += [str(w.message) for w in recwarn]
    store = Store.open(tmp_path / "store")
    texts += [store.manifest.to_csv(), store.ledger.to_csv()]
    for path in (tmp_path / "store").rglob("*"):
        texts.append(path.name)
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    for canary in canaries:
        assert not any(canary in text for text in texts), canary
    private = tmp_path / "store.private" / "ledger.csv"
    assert "Canary_Jane" in private.read_text()
    assert private.stat().st_mode & 0o777 == 0o600


def test_png_classes_only_when_asked(tmp_path):
    for i, name in enumerate(("train/sick/a", "train/well/b", "test/sick/c")):
        path = tmp_path / "in" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(i, i + 12, dtype=np.uint8).reshape(3, 4)).save(path)
    ingest(tmp_path / "in", tmp_path / "plain")
    assert Store.open(tmp_path / "plain").label_columns() == []
    ingest(tmp_path / "in", tmp_path / "classes", class_folders=True)
    manifest = Store.open(tmp_path / "classes").manifest
    pairs = sorted(zip(manifest["split"], manifest["label:class"], strict=True))
    assert pairs == [("test", "sick"), ("train", "sick"), ("train", "well")]
    assert set(manifest["source"]) == {"png"}


def test_archive_is_one_file_and_many_volumes(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (4, 6, 6)).astype(np.uint8)
    images[2] = 7
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", train_images=images, train_labels=np.arange(4)[:, None])
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert (summary.found, summary.volumes) == (1, 3)
    # One image of a single value could not be used, so not everything was.
    assert summary.counts == {("used", "VOLUME_EMPTY"): 1}
    assert summary.exit_code is Exit.SOME_REJECTED
    store = Store.open(tmp_path / "store")
    assert sorted(store.manifest["label:class"]) == [0, 1, 3]
    assert set(store.manifest["split"]) == {"train"}


def test_second_copy_of_an_archive_is_a_duplicate(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (4, 6, 6)).astype(np.uint8)
    images[1] = images[3]
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", train_images=images)
    shutil.copy(tmp_path / "in" / "a.npz", tmp_path / "in" / "b.npz")
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.volumes == 4
    assert summary.counts == {("duplicate", "DUPLICATE"): 1, ("used", ""): 1}


def test_3d_archive_says_that_its_geometry_is_not_known(tmp_path):
    images = np.random.default_rng(0).integers(0, 2, (2, 4, 5, 6)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", val_images=images)
    ingest(tmp_path / "a.npz", tmp_path / "store")
    manifest = Store.open(tmp_path / "store").manifest
    assert [list(d) for d in manifest["defects"]] == [["AFFINE_INVALID"]] * 2
    assert set(manifest["split"]) == {"validation"}


def test_an_older_private_ledger_is_kept(folder, tmp_path):
    ingest(folder, tmp_path / "store")
    shutil.rmtree(tmp_path / "store")
    (folder / "more.txt").write_text("more")
    ingest(folder, tmp_path / "store")
    names = sorted(p.name for p in (tmp_path / "store.private").iterdir())
    assert names == ["ledger-2.csv", "ledger.csv", "site.key"]


@pytest.mark.data
def test_real_hippocampus(data_root, tmp_path):
    summary = ingest(data_root / "hippocampus", tmp_path / "store")
    assert (summary.found, summary.volumes, summary.subjects) == (347, 173, 114)
    assert summary.exit_code is Exit.DONE


@pytest.mark.data
def test_real_dicom_tree_accounts_for_every_file(data_root, tmp_path):
    summary = ingest(data_root / "dicom", tmp_path / "store")
    on_disk = sum(path.is_file() for path in (data_root / "dicom").rglob("*"))
    assert sum(summary.counts.values()) == summary.found == on_disk
    assert summary.exit_code is Exit.SOME_REJECTED
    store = Store.open(tmp_path / "store")
    assert sorted(store.manifest["dims"].value_counts()) == [25, 94]
    # A NIfTI of two volumes lies among the mosaics.
    assert sorted(store.manifest.query("source == 'nifti'")["part"]) == ["time=1/2", "time=2/2"]
    ledger = store.ledger.to_csv() + store.manifest.to_csv()
    for canary in ("Dumbledore", "PGBM", "TCGA", "1.2.826", "HCrop", "ID_0010"):
        assert canary not in ledger
