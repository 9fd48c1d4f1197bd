"""The DICOM SEG: right voxels, by readers that know nothing of the writer."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from medssl.errors import MedsslError
from medssl.predict.dicom_seg import Origin, segment_names, write_seg
from medssl.predict.verify import check_seg

ORIGIN = Origin(bundle_sha256="ab" * 32, method="test")
NAMES = {1: "anterior", 2: "posterior", 5: "lesion"}

GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"descending": True},
    {"angles": (25.0, -14.0, 40.0), "spacing": (0.7, 1.9, 3.1)},
    {"angles": (90.0, 0.0, 0.0), "descending": True},
    {"angles": (-88.0, 3.0, 91.0)},
    {"angles": (45.0, 45.0, 0.0)},
    {"shape": (11, 9, 1)},
]


def some_labels(shape: tuple[int, ...]) -> np.ndarray:
    """An uneven pattern with labels 1, 2 and 5, so that any flip or swap of axes shows."""
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 1:3, : (shape[2] + 1) // 2] = 1
    labels[7:9, 4:8, shape[2] // 2 :] = 5
    labels[9, 0, 0] = 2
    return labels


def truth(labels: np.ndarray, affine: np.ndarray) -> dict[str, tuple[int, np.ndarray]]:
    """Voxels and centroid in RAS mm per name, the slow way."""
    found = {}
    for value, name in NAMES.items():
        points = [affine @ [*index, 1.0] for index in np.argwhere(labels == value)]
        if points:
            found[name] = (len(points), np.mean(points, axis=0)[:3])
    return found


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_segments_lie_where_they_were_predicted(
    tmp_path: Path, make_series: Any, geometry: dict[str, Any]
) -> None:
    series = make_series(tmp_path / "in", **geometry)
    labels = some_labels(series.voxels.shape)
    names = write_seg(
        tmp_path / "seg.dcm", series.files[::-1], labels, series.affine, NAMES, ORIGIN
    )
    assert names == {"anterior": 1, "posterior": 2, "lesion": 5}
    found = check_seg(tmp_path / "seg.dcm", labels, series.affine, names)
    for name, (voxels, centroid) in truth(labels, series.affine).items():
        assert found[name].voxels == voxels
        np.testing.assert_allclose(found[name].centroid_mm, centroid, atol=1e-3)


@pytest.mark.parametrize("geometry", GEOMETRIES[:4])
def test_highdicom_reads_the_same_voxels_back_on_the_source_slices(
    tmp_path: Path, make_series: Any, geometry: dict[str, Any]
) -> None:
    series = make_series(tmp_path / "in", **geometry)
    labels = some_labels(series.voxels.shape)
    write_seg(tmp_path / "seg.dcm", series.files, labels, series.affine, NAMES, ORIGIN)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for f in series.files]
    numbers = {1: 1, 2: 2, 3: 5}
    pixels = seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True)
    for number, value in numbers.items():
        want = (labels == value).transpose(2, 1, 0)
        np.testing.assert_array_equal(pixels[..., number - 1], want)


def test_a_turned_label_map_is_written_on_the_same_voxels(tmp_path: Path, make_series: Any) -> None:
    """The label map may come with any axis order, as long as its affine says so."""
    series = make_series(tmp_path / "in", angles=(10.0, 5.0, 0.0))
    labels = some_labels(series.voxels.shape)
    turned = labels.transpose(2, 0, 1)[::-1]
    move = np.zeros((4, 4))
    move[0, 1] = move[1, 2] = move[3, 3] = 1
    move[2, 0], move[2, 3] = -1, labels.shape[2] - 1
    affine = series.affine @ move
    names = write_seg(tmp_path / "seg.dcm", series.files, turned, affine, NAMES, ORIGIN)
    found = check_seg(tmp_path / "seg.dcm", labels, series.affine, names)
    for name, (voxels, centroid) in truth(labels, series.affine).items():
        assert found[name].voxels == voxels
        np.testing.assert_allclose(found[name].centroid_mm, centroid, atol=1e-3)


def test_what_the_object_says_of_itself(tmp_path: Path, make_series: Any) -> None:
    series = make_series(tmp_path / "in")
    labels = some_labels(series.voxels.shape)
    write_seg(tmp_path / "seg.dcm", series.files, labels, series.affine, NAMES, ORIGIN)
    ds = pydicom.dcmread(tmp_path / "seg.dcm")
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (ds.Modality, ds.SegmentationType) == ("SEG", "BINARY")
    source = pydicom.dcmread(series.files[0])
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID"):
        assert ds[name].value == source[name].value
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == series.uid
    segment = ds.SegmentSequence[2]
    assert segment.SegmentLabel == "lesion"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("85756007", "SCT")
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert "ab" * 32 in algorithm.AlgorithmParameters


@pytest.mark.parametrize("shift", [0.3, 1.0, 60.0])
def test_labels_off_the_grid_of_the_slices_are_refused(
    tmp_path: Path, make_series: Any, shift: float
) -> None:
    series = make_series(tmp_path / "in")
    labels = some_labels(series.voxels.shape)
    moved = series.affine.copy()
    moved[0, 3] += shift
    with pytest.raises(MedsslError) as caught:
        write_seg(tmp_path / "seg.dcm", series.files, labels, moved, NAMES, ORIGIN)
    assert caught.value.code == "PREDICTION_MOVED"
    assert not (tmp_path / "seg.dcm").exists()


def test_a_slice_too_few_is_refused(tmp_path: Path, make_series: Any) -> None:
    series = make_series(tmp_path / "in")
    labels = some_labels(series.voxels.shape)
    with pytest.raises(MedsslError) as caught:
        write_seg(tmp_path / "seg.dcm", series.files[1:], labels, series.affine, NAMES, ORIGIN)
    assert caught.value.code == "PREDICTION_MOVED"


def _edit(files: list[Path], **changes: Any) -> None:
    for file in files:
        ds = pydicom.dcmread(file)
        for name, value in changes.items():
            if value is None:
                delattr(ds, name)
            else:
                setattr(ds, name, value)
        ds.save_as(file)


def test_a_series_that_lacks_what_may_be_empty_is_written(
    tmp_path: Path, make_series: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    series = make_series(tmp_path / "in")
    _edit(
        series.files,
        PatientName="No caret, and a comma",
        PatientBirthDate=None,
        AccessionNumber=None,
        StudyTime=None,
        PatientSex="X",
    )
    labels = some_labels(series.voxels.shape)
    names = write_seg(tmp_path / "seg.dcm", series.files, labels, series.affine, NAMES, ORIGIN)
    assert set(check_seg(tmp_path / "seg.dcm", labels, series.affine, names)) == set(names)
    captured = capfd.readouterr()
    assert "caret" not in captured.out + captured.err


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"FrameOfReferenceUID": None}, "DICOM_TAG_MISSING"),
        ({"PatientBirthDate": "not-a-date"}, "DICOM_TAG_INVALID"),
    ],
)
def test_a_series_that_cannot_be_repeated_is_refused_without_its_values(
    tmp_path: Path, make_series: Any, changes: dict[str, Any], code: str
) -> None:
    series = make_series(tmp_path / "in")
    with pydicom.config.disable_value_validation():
        _edit(series.files, **changes)
    labels = some_labels(series.voxels.shape)
    with pytest.raises(MedsslError) as caught:
        write_seg(tmp_path / "seg.dcm", series.files, labels, series.affine, NAMES, ORIGIN)
    assert caught.value.code == code
    assert "not-a-date" not in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert "not-a-date" not in shown


def test_segment_names_are_valid_and_unique() -> None:
    names = segment_names([1, 2, 3, 4], {1: "a\\b", 2: "liver", 3: "liver", 4: " "})
    assert names == {"a/b": 1, "liver": 2, "liver 3": 3, "label 4": 4}
    long = segment_names([1, 2], {1: "x" * 90, 2: "x" * 90})
    assert len(long) == 2
    assert all(len(name) <= 64 for name in long)
