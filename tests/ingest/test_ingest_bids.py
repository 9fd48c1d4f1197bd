from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medssl.errors import Exit
from medssl.store import Store

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])


def nifti(path, seed, shape=(4, 5, 6), affine=AFFINE, values=1000):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, values, shape).astype(np.int16)
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, 1)
    nib.save(image, path)
    return array


def label(path, seed=0, **options):
    return nifti(path, seed, values=3, **options)


def describe(folder, **fields):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"Name": "x", "BIDSVersion": "1.9.0", **fields})
    (folder / "dataset_description.json").write_text(text)


@pytest.fixture
def tree(tmp_path):
    """Two subjects, one with two sessions, and what lies around them."""
    root = tmp_path / "in"
    describe(root)
    nifti(root / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz", 1)
    nifti(root / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_T1w.nii.gz", 2)
    nifti(root / "sub-01" / "ses-2" / "ct" / "sub-01_ses-2_ct.nii.gz", 3)
    nifti(root / "sub-02" / "anat" / "sub-02_acq-high_T2w.nii.gz", 4)
    nifti(root / "sub-02" / "func" / "sub-02_task-rest_bold.nii.gz", 5, (4, 5, 6, 2))
    nifti(root / "sub-02" / "pet" / "sub-02_trc-FDG_pet.nii.gz", 6)
    (root / "participants.tsv").write_text(
        "participant_id\tage\tgroup\tpatient_id\nsub-01\t60\tcase\tMRN1\nsub-02\tn/a\tcontrol\tMRN2\n"
    )
    (root / "participants.json").write_text("{}")
    (root / "README").write_text("x")
    (root / "sub-02" / "func" / "sub-02_task-rest_bold.json").write_text("{}")
    (root / "sub-02" / "func" / "sub-02_task-rest_events.tsv").write_text("onset\n1\n")
    return root


def test_subjects_sessions_modalities_and_labels(tree, tmp_path, ingested):
    summary, rows = ingested(modality="OT")
    assert summary.exit_code is Exit.DONE
    assert (summary.found, summary.volumes, summary.subjects) == (12, 7, 2)
    assert rows["dataset_description.json"] == rows["participants.tsv"] == ("used", "")
    for name in ("participants.json", "README", "sub-02/func/sub-02_task-rest_events.tsv"):
        assert rows[name] == ("ignored", "NOT_AN_IMAGE")
    manifest = Store.open(tmp_path / "store").manifest
    assert sorted(manifest["modality"]) == ["CT", "MR", "MR", "MR", "MR", "MR", "PT"]
    assert sorted(manifest.groupby("subject_id")["study_id"].nunique()) == [1, 2]
    first = manifest[manifest["label:group"] == "case"]
    assert (len(first), set(first["label:age"]), first["subject_id"].nunique()) == (3, {60}, 1)
    assert manifest["label:age"].isna().sum() == 4
    assert "label:patient_id" not in manifest
    assert any("1 columns" in note for note in summary.notes)
    assert not any("its own subject" in note for note in summary.notes)
    text = (tmp_path / "store.private" / "ledger.csv").read_text()
    assert text.count("BIDS sidecar") == 3


@pytest.mark.parametrize(
    "place",
    ["sub-01/anat/sub-02_T1w.nii.gz", "sub-01/anat/sub-01_ses-3_T1w.nii.gz",
     "sub-01/ses-1/anat/sub-01_T1w.nii.gz", "sub-01/anat/T1w.nii.gz", "scan.nii.gz",
     "sub-01/anat/sub-01_sub-01_T1w.nii.gz", "sourcedata/sub-01/anat/sub-01_T1w.nii.gz"],
)  # fmt: skip
def test_a_place_that_names_no_one_subject_is_refused(tree, place, ingested):
    nifti(tree / place, 9)
    _, rows = ingested()
    assert rows[place] == ("rejected", "SUBJECT_UNKNOWN")


def test_a_label_map_goes_to_the_one_image_with_its_entities(tree, tmp_path, ingested):
    derived = tree / "derivatives" / "manual"
    describe(derived, DatasetType="derivative")
    place = "sub-02/anat/sub-02_acq-high_desc-tumour_mask.nii.gz"
    values = label(derived / place)
    label(tree / "derivatives" / "plain" / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_dseg.nii.gz")
    summary, rows = ingested()
    assert summary.exit_code is Exit.DONE
    store = Store.open(tmp_path / "store")
    assert (store.manifest["label_array"] != "").sum() == 2
    assert rows[f"derivatives/manual/{place}"] == ("used", "")
    found = [store[v].label() for v in store if store[v].label() is not None]
    assert any(np.array_equal(one[0], values[::-1]) for one in found)


def test_label_maps_of_no_image_or_of_several_are_refused(tree, tmp_path, ingested):
    derived = tree / "derivatives" / "x"
    refused = {
        "sub-02/anat/sub-02_T1w_mask.nii.gz": "SUBJECT_UNKNOWN",
        "sub-02/anat/sub-02_mask.nii.gz": "LABEL_WITHOUT_IMAGE",
        "sub-02/anat/sub-02_acq-high_space-MNI152NLin6Asym_dseg.nii.gz": "LABEL_WITHOUT_IMAGE",
        "sub-01/ses-1/anat/sub-01_ses-1_label-a_mask.nii.gz": "LABEL_AMBIGUOUS",
        "sub-01/ses-1/anat/sub-01_ses-1_label-b_mask.nii.gz": "LABEL_AMBIGUOUS",
        "sub-02/anat/sub-02_acq-high_desc-preproc_T2w.nii.gz": "DERIVED",
        "sub-02/anat/sub-02_acq-high_label-GM_probseg.nii.gz": "DERIVED",
    }
    for number, name in enumerate(refused):
        label(derived / name, number)
    moved = AFFINE.copy()
    moved[0, 3] = 9
    name = "sub-01/ses-2/anat/sub-01_ses-2_mask.nii.gz"
    label(derived / name, affine=moved)
    refused[name] = "LABEL_GRID_MISMATCH"
    summary, rows = ingested()
    assert {k: rows[f"derivatives/x/{k}"] for k in refused} == {
        k: ("rejected", code) for k, code in refused.items()
    }
    assert summary.volumes == 7  # every acquired image is there, without a label map
    assert set(Store.open(tmp_path / "store").manifest["label_array"]) == {""}


def test_two_images_on_one_grid_are_told_apart_by_space_or_sources(tree, tmp_path, ingested):
    nifti(tree / "sub-03" / "anat" / "sub-03_T1w.nii.gz", 31)
    nifti(tree / "sub-03" / "anat" / "sub-03_T2w.nii.gz", 32)
    nifti(tree / "sub-04" / "anat" / "sub-04_T1w.nii.gz", 41)
    nifti(tree / "sub-04" / "anat" / "sub-04_T2w.nii.gz", 42)
    nifti(tree / "sub-05" / "anat" / "sub-05_T1w.nii.gz", 51)
    nifti(tree / "sub-05" / "anat" / "sub-05_T2w.nii.gz", 52)
    derived = tree / "derivatives" / "x"
    label(derived / "sub-03" / "anat" / "sub-03_mask.nii.gz")
    label(derived / "sub-04" / "anat" / "sub-04_space-T2w_mask.nii.gz")
    label(derived / "sub-05" / "anat" / "sub-05_mask.nii.gz")
    sidecar = derived / "sub-05" / "anat" / "sub-05_mask.json"
    sidecar.write_text(json.dumps({"Sources": ["bids:raw:sub-05/anat/sub-05_T2w.nii.gz"]}))
    _, rows = ingested()
    names = [name for name in rows if name.endswith("_mask.nii.gz")]
    assert [rows[name][1] for name in sorted(names)] == ["LABEL_AMBIGUOUS", "", ""]
    store = Store.open(tmp_path / "store")
    labelled = store.manifest[store.manifest["label_array"] != ""]["volume_id"]
    second = {nifti(tmp_path / "x.nii", seed)[::-1].tobytes() for seed in (42, 52)}
    assert {store[v].array()[0].astype(np.int16).tobytes() for v in labelled} == second


def test_a_broken_participants_table_costs_the_labels_and_is_said(tree, tmp_path, ingested):
    (tree / "participants.tsv").write_text("participant_id\tage\nsub-01\n")
    summary, rows = ingested()
    assert rows["participants.tsv"] == ("rejected", "TABLE_INVALID")
    assert (summary.volumes, summary.exit_code) == (7, Exit.SOME_REJECTED)
    assert Store.open(tmp_path / "store").label_columns() == []


def test_a_subject_that_no_row_names_is_said(tree, ingested):
    (tree / "participants.tsv").write_text("participant_id\tage\nsub-01\t60\n")
    summary, _ = ingested()
    assert any("1 subjects" in note for note in summary.notes)


def test_two_trees_are_said_to_share_their_subjects(tree, tmp_path, ingested):
    other = tree / "other"
    describe(other)
    nifti(other / "sub-01" / "anat" / "sub-01_T1w.nii.gz", 77)
    summary, _ = ingested()
    assert summary.subjects == 2
    assert any("Several BIDS trees" in note for note in summary.notes)


def test_without_a_bids_version_a_folder_is_only_a_folder(tree, ingested):
    (tree / "dataset_description.json").write_text('{"Name": "x"}')
    summary, _ = ingested()
    assert summary.subjects == 6


def test_a_broken_description_leaves_the_subjects_unknown(tree, ingested):
    (tree / "dataset_description.json").write_text("{")
    summary, rows = ingested()
    assert rows["dataset_description.json"] == ("rejected", "TABLE_INVALID")
    assert summary.exit_code is Exit.NOTHING_USABLE
    assert rows["sub-02/pet/sub-02_trc-FDG_pet.nii.gz"] == ("rejected", "SUBJECT_UNKNOWN")
