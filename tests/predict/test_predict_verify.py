"""Reading back: label places against slow truth, and every kind of tampering is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medssl.errors import MedsslError
from medssl.predict.dicom_seg import Origin, write_seg
from medssl.predict.verify import check_nifti, check_seg, label_places

NAMES = {"one": 1, "two": 2}
AFFINE = np.array(
    [[-0.8, 0.3, 0.1, 10.0], [0.2, 1.1, -0.4, -20.0], [0.0, 0.5, 2.0, 5.0], [0, 0, 0, 1.0]]
)


def labels_of(shape: tuple[int, int, int]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[1:4, 2:3, 1:3] = 1
    labels[5:6, 4:6, 2:] = 2
    return labels


def test_label_places_equal_a_loop_over_the_voxels() -> None:
    labels = labels_of((8, 7, 5))
    places = label_places(labels, AFFINE, NAMES)
    assert set(places) == set(NAMES)
    for name, place in places.items():
        points = [(AFFINE @ [*v, 1.0])[:3] for v in np.argwhere(labels == NAMES[name])]
        assert place.voxels == len(points)
        np.testing.assert_allclose(place.centroid_mm, np.mean(points, axis=0), atol=1e-12)


def test_no_label_no_place() -> None:
    assert label_places(np.zeros((3, 3, 3), np.uint8), np.eye(4), NAMES) == {}


def test_a_nifti_file_is_placed_by_its_own_affine(tmp_path: Path) -> None:
    labels = labels_of((8, 7, 5))
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "a.nii.gz")
    found = check_nifti(tmp_path / "a.nii.gz", labels, AFFINE, NAMES)
    assert found.keys() == NAMES.keys()
    turned = nib.Nifti1Image(
        labels[::-1], AFFINE @ np.array([[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    nib.save(turned, tmp_path / "b.nii.gz")
    check_nifti(tmp_path / "b.nii.gz", labels, AFFINE, NAMES)


@pytest.mark.parametrize("shift", [0.11, -0.3, float("nan")])
def test_a_nifti_file_that_moved_is_caught(tmp_path: Path, shift: float) -> None:
    labels = labels_of((8, 7, 5))
    moved = AFFINE.copy()
    moved[2, 3] += shift
    nib.save(nib.Nifti1Image(labels, moved), tmp_path / "a.nii.gz")
    with pytest.raises(MedsslError) as caught:
        check_nifti(tmp_path / "a.nii.gz", labels, AFFINE, NAMES)
    assert (caught.value.code, caught.value.exit_code) == ("PREDICTION_MOVED", 6)


def test_a_shuffle_that_keeps_counts_and_centroids_is_caught(tmp_path: Path) -> None:
    """Mirroring about the label's own centre moves neither count nor centroid."""
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 1] = labels[3, 1, 2] = 1
    mirrored = np.zeros_like(labels)
    mirrored[3, 0, 1] = mirrored[0, 1, 2] = 1
    nib.save(nib.Nifti1Image(mirrored, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(MedsslError, match="2 voxels of label 1 lie elsewhere"):
        check_nifti(tmp_path / "a.nii.gz", labels, np.eye(4), NAMES)


def test_a_label_added_lost_or_renamed_is_caught(tmp_path: Path) -> None:
    labels = labels_of((8, 7, 5))
    for change in ((2, 0), (2, 1), (2, 3), (0, 2)):
        written = labels.copy()
        written[labels == change[0]] = change[1]
        nib.save(nib.Nifti1Image(written, AFFINE), tmp_path / "a.nii.gz")
        with pytest.raises(MedsslError, match="PREDICTION_MOVED"):
            check_nifti(tmp_path / "a.nii.gz", labels, AFFINE, NAMES)


def _shift_frames(ds: pydicom.Dataset) -> None:
    for groups in ds.PerFrameFunctionalGroupsSequence:
        position = groups.PlanePositionSequence[0]
        position.ImagePositionPatient = [
            float(v) + d
            for v, d in zip(position.ImagePositionPatient, (0.0, 0.0, 0.15), strict=True)
        ]


def _swap_frames(ds: pydicom.Dataset) -> None:
    groups = ds.PerFrameFunctionalGroupsSequence
    first, last = groups[0].PlanePositionSequence, groups[2].PlanePositionSequence
    groups[0].PlanePositionSequence, groups[2].PlanePositionSequence = last, first


def _flip_rows(ds: pydicom.Dataset) -> None:
    shared = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    values = [float(v) for v in shared.ImageOrientationPatient]
    shared.ImageOrientationPatient = [*values[:3], *(-v for v in values[3:])]


def _stretch(ds: pydicom.Dataset) -> None:
    shared = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    shared.PixelSpacing = list(reversed(shared.PixelSpacing))


def _swap_segments(ds: pydicom.Dataset) -> None:
    one, two = ds.SegmentSequence
    one.SegmentLabel, two.SegmentLabel = two.SegmentLabel, one.SegmentLabel


def _clear_a_pixel(ds: pydicom.Dataset) -> None:
    data = bytearray(ds.PixelData)
    index = next(i for i, byte in enumerate(data) if byte)
    data[index] &= data[index] - 1
    ds.PixelData = bytes(data)


@pytest.mark.parametrize(
    "tamper",
    [_shift_frames, _swap_frames, _flip_rows, _stretch, _swap_segments, _clear_a_pixel],
)
def test_a_seg_that_was_tampered_with_is_caught(
    tmp_path: Path, make_series: Any, tamper: Callable[[pydicom.Dataset], None]
) -> None:
    series = make_series(tmp_path / "in", angles=(10.0, 20.0, 5.0))
    labels = labels_of(series.voxels.shape)
    path = tmp_path / "seg.dcm"
    names = {value: name for name, value in NAMES.items()}
    write_seg(path, series.files, labels, series.affine, names, Origin("0" * 64, "test"))
    check_seg(path, labels, series.affine, NAMES)
    ds = pydicom.dcmread(path)
    tamper(ds)
    ds.save_as(path)
    with pytest.raises(MedsslError) as caught:
        check_seg(path, labels, series.affine, NAMES)
    assert caught.value.code == "PREDICTION_MOVED"
