"""Reading a results folder: any stored orientation, and a typed error for every broken one."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from review_results import Results
from synthetic_results import write_case, write_status

from medssl.errors import MedsslError

ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]


def rewrite_status(folder: Path, **changes: object) -> None:
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | changes))


def refused(folder: Path, case_id: str | None = None) -> MedsslError:
    with pytest.raises(MedsslError) as caught:
        results = Results(folder)
        if case_id is not None:
            results.case(case_id)
            results.volumes(case_id)
    assert caught.value.code == "RESULTS_INVALID"
    assert str(folder) not in str(caught.value)
    return caught.value


def test_status_is_read_and_cases_are_left_for_later(results_folder: Path) -> None:
    (results_folder / "cases" / "case-b" / "case.json").unlink()
    results = Results(results_folder)
    assert results.cases == ("case-a", "case-b", "case-c")
    assert [(entry.case_id, entry.code) for entry in results.rejected] == [
        ("case-x", "SLICE_MISSING")
    ]
    case = results.case("case-a")
    assert (case.modality, case.shape, case.spacing) == ("CT", (6, 8, 10), (2, 2, 3))
    assert [(label.name, label.voxels) for label in case.labels] == [("liver", 27), ("lesion", 1)]
    assert "case.json is not there" in str(refused(results_folder, "case-b"))


def test_all_48_orientations_load_as_the_same_ras_volume(tmp_path: Path) -> None:
    assert len(set(ORIENTATIONS)) == 48
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    segmentation = (image > 20).astype(np.uint8)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-5, 7, 11)
    for orientation in ORIENTATIONS:
        write_case(
            tmp_path, orientation, image, segmentation, affine, {1: "a"}, orientation=orientation
        )
        stored = nib.load(tmp_path / "cases" / orientation / "image.nii.gz")
        assert "".join(nib.aff2axcodes(stored.affine)) == orientation
    write_status(tmp_path, ORIENTATIONS, {})
    results = Results(tmp_path)
    for orientation in ORIENTATIONS:
        volumes = results.volumes(orientation)
        np.testing.assert_array_equal(volumes.image, image)
        np.testing.assert_array_equal(volumes.segmentation, segmentation)
        np.testing.assert_allclose(volumes.affine, affine, atol=1e-6)
        assert volumes.image.dtype == np.int16


def test_counts_volume_and_centroid(results_folder: Path) -> None:
    volumes = Results(results_folder).volumes("case-a")
    assert volumes.counts == {0: 480 - 28, 1: 27, 2: 1}
    assert volumes.voxel_ml == pytest.approx(0.012)
    assert volumes.centroid(1) == (2, 3, 4)
    assert volumes.centroid(2) == (4, 6, 7)
    assert volumes.centroid() == (2, 3, 4)
    assert volumes.centroid(9) == (3, 4, 5)  # absent: the middle


def test_scaled_files_are_read_in_their_units(tmp_path: Path) -> None:
    image = np.full((2, 2, 2), 1.5)
    write_case(tmp_path, "c", image, np.ones((2, 2, 2), np.uint8), np.eye(4), {1: "a"})
    scaled = nib.Nifti1Image(image, np.eye(4))
    scaled.header.set_data_dtype(np.int16)
    scaled.to_filename(tmp_path / "cases" / "c" / "image.nii.gz")
    write_status(tmp_path, ["c"], {})
    loaded = Results(tmp_path).volumes("c").image
    assert loaded.dtype == np.float32
    assert loaded == pytest.approx(1.5, abs=1e-4)


def test_a_folder_that_is_no_results_folder(tmp_path: Path) -> None:
    assert "status.json is not there" in str(refused(tmp_path))
    (tmp_path / "status.json").write_text("{")
    assert "not valid JSON" in str(refused(tmp_path))
    (tmp_path / "status.json").write_text("[]")
    refused(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": 2},
        {"cases": None},
        {"cases": [{"outcome": "written"}]},
        {"cases": [{"case_id": "../case-a", "outcome": "written"}]},
        {"cases": [{"case_id": "..", "outcome": "written"}]},
        {"cases": [{"case_id": "case-a", "outcome": "written"}] * 2},
    ],
)
def test_a_broken_status(results_folder: Path, changes: dict[str, object]) -> None:
    rewrite_status(results_folder, **changes)
    refused(results_folder)


def test_a_broken_case(results_folder: Path) -> None:
    file = results_folder / "cases" / "case-a" / "case.json"
    case = json.loads(file.read_text())
    file.write_text(json.dumps(case | {"labels": {"1": {"name": "liver"}}}))
    assert "KeyError" in str(refused(results_folder, "case-a"))


def save(folder: Path, name: str, array: np.ndarray, affine: np.ndarray) -> None:
    nib.Nifti1Image(array, affine).to_filename(folder / "cases" / "case-a" / name)


def test_a_segmentation_on_another_grid_is_not_shown(results_folder: Path) -> None:
    affine, labels = np.diag([2.0, 2.0, 3.0, 1.0]), np.ones((6, 8, 10), np.uint8)
    save(results_folder, "segmentation.nii.gz", labels, affine)
    Results(results_folder).volumes("case-a")
    moved = affine.copy()
    moved[2, 3] = 0.5
    save(results_folder, "segmentation.nii.gz", labels, moved)
    assert "grid" in str(refused(results_folder, "case-a"))
    save(results_folder, "segmentation.nii.gz", labels[:5], affine)
    assert "grid" in str(refused(results_folder, "case-a"))


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, 70000.0])
def test_values_that_are_no_labels_are_refused(results_folder: Path, value: float) -> None:
    labels = np.zeros((6, 8, 10), np.float32)
    labels[0, 0, 0] = value
    save(results_folder, "segmentation.nii.gz", labels, np.diag([2.0, 2.0, 3.0, 1.0]))
    assert "not labels" in str(refused(results_folder, "case-a"))


def test_files_that_cannot_be_read(results_folder: Path) -> None:
    file = results_folder / "cases" / "case-a" / "image.nii.gz"
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no gzip", gzip.compress(b"x" * 400)):
        file.write_bytes(content)
        assert "cannot be read" in str(refused(results_folder, "case-a"))
    file.unlink()
    assert "cannot be read" in str(refused(results_folder, "case-a"))


def test_a_time_series_is_refused(results_folder: Path) -> None:
    save(results_folder, "image.nii.gz", np.zeros((6, 8, 10, 2), np.int16), np.eye(4))
    assert "one 3D volume" in str(refused(results_folder, "case-a"))
