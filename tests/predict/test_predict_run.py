"""A whole run: what is written, and what nobody may find in it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from predict_runs import LPS, read_json, save_nifti

from medssl.bundle import Bundle
from medssl.evaluate.inference import volume_outputs
from medssl.predict.run import predict
from medssl.predict.verify import check_seg
from medssl.store.intensity import statistics


def test_nifti_and_dicom_are_predicted_on_their_own_grids(
    tmp_path: Path,
    make_series: Any,
    make_bundle: Callable[..., Path],
    truth_of: Callable[[np.ndarray], np.ndarray],
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    voxels = save_nifti(tmp_path / "in" / "a" / "scan 1.nii.gz")
    series = make_series(
        tmp_path / "in" / "d", angles=(20.0, -35.0, 10.0), descending=True, level=200
    )
    (tmp_path / "in" / "README.txt").write_text("no image")
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert (summary.exit_code, summary.state, summary.ignored) == (0, "done", 1)

    nifti = tmp_path / "out" / "cases" / "scan_1"
    labels = nib.load(nifti / "segmentation.nii.gz")
    np.testing.assert_array_equal(np.asarray(labels.dataobj), truth_of(voxels))
    np.testing.assert_array_equal(labels.affine, LPS)
    assert labels.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(nib.load(nifti / "image.nii.gz").dataobj), voxels)
    assert not (nifti / "segmentation.dcm").exists()

    dicom = next((tmp_path / "out" / "cases").glob("ser-*"))
    truth = truth_of(series.voxels)
    record = read_json(dicom / "case.json")
    for value in (1, 2):
        points = np.argwhere(truth == value)
        centroid = (points @ series.affine[:3, :3].T + series.affine[:3, 3]).mean(0)
        entry = record["labels"][str(value)]
        assert entry["voxels"] == len(points)
        np.testing.assert_allclose(entry["centroid_mm"], centroid, atol=0.01)
        assert entry["volume_ml"] == pytest.approx(len(points) * 0.9 * 1.3 * 2.5 / 1000, rel=1e-4)
    check_seg(dicom / "segmentation.dcm", truth, series.affine, {"grey": 1, "bright": 2})


def test_status_and_case_files_have_the_stated_form(
    tmp_path: Path, make_series: Any, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    make_series(tmp_path / "in", level=200)
    (tmp_path / "in" / "bad.nii.gz").write_bytes(b"\x1f\x8b not a gzip")
    predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    status = read_json(tmp_path / "out" / "status.json")
    assert {k: status[k] for k in ("format_version", "state", "exit_code", "task")} == {
        "format_version": 1,
        "state": "partial",
        "exit_code": 3,
        "task": "segmentation",
    }
    assert (status["found"], status["written"], status["rejected"]) == (2, 1, 1)
    assert status["started"] <= status["finished"]
    assert len(status["bundle_sha256"]) == 64
    by_outcome = {case["outcome"]: case for case in status["cases"]}
    assert set(by_outcome["written"]) == {"case_id", "outcome", "code", "detail", "files"}
    for name in by_outcome["written"]["files"]:
        assert (tmp_path / "out" / name).is_file()
    assert len(by_outcome["written"]["files"]) == 4
    assert by_outcome["rejected"]["case_id"] == "bad"
    assert by_outcome["rejected"]["code"] == "FORMAT_UNSUPPORTED"
    case_id = by_outcome["written"]["case_id"]
    record = read_json(tmp_path / "out" / "cases" / case_id / "case.json")
    assert set(record) == {
        "case_id",
        "modality",
        "source",
        "shape",
        "spacing",
        "window",
        "labels",
        "bundle_sha256",
    }
    assert (record["case_id"], record["modality"], record["source"]) == (case_id, "MR", "dicom")
    assert (record["shape"], record["spacing"]) == ([20, 14, 8], [0.9, 1.3, 2.5])


def test_nobody_is_named_outside_the_dicom_seg(
    tmp_path: Path,
    make_series: Any,
    make_bundle: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    series = make_series(tmp_path / "in" / "FINDME", level=200)
    broken = make_series(tmp_path / "in" / "Findme2")
    broken.files[3].unlink()
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert [c.code for c in summary.cases if c.outcome == "rejected"] == ["SLICE_MISSING"]
    secrets = [b"findme", b"19700101", series.uid.encode(), broken.uid.encode()]
    for path in (p for p in (tmp_path / "out").rglob("*") if p.is_file()):
        assert "findme" not in path.as_posix().lower().removeprefix(tmp_path.as_posix().lower())
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = nib.load(path).to_bytes()
        if path.name != "segmentation.dcm":
            assert not any(secret in content.lower() for secret in secrets), path.name
    captured = capfd.readouterr()
    assert "findme" not in (captured.out + captured.err).lower()
    private = tmp_path / "out.private"
    assert (private / "site.key").stat().st_mode & 0o077 == 0
    rows = list(csv.DictReader((private / "cases.csv").open()))
    assert {row["case_id"] for row in rows} == {case.case_id for case in summary.cases}


def test_an_empty_segmentation_is_written_without_a_seg(
    tmp_path: Path, make_series: Any, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    make_series(tmp_path / "in", level=40)  # nothing reaches the first level
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    (case,) = summary.cases
    assert (summary.exit_code, case.detail) == (0, "no voxel was labelled")
    assert not any(name.endswith(".dcm") for name in case.files)
    record = read_json(tmp_path / "out" / "cases" / case.case_id / "case.json")
    assert record["labels"]["1"] == {
        "name": "grey",
        "voxels": 0,
        "volume_ml": 0.0,
        "centroid_mm": None,
    }


def test_a_label_that_does_not_occur_has_no_segment(
    tmp_path: Path, make_series: Any, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    series = make_series(tmp_path / "in")
    for index, file in enumerate(series.files):  # only the upper level occurs
        ds = pydicom.dcmread(file)
        ds.PixelData = (np.arange(14 * 20, dtype=np.int16) % (2 + index) // 2 * 200).tobytes()
        ds.save_as(file)
    predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    seg = pydicom.dcmread(next((tmp_path / "out").rglob("segmentation.dcm")))
    assert [(s.SegmentNumber, s.SegmentLabel) for s in seg.SegmentSequence] == [(1, "bright")]


def test_a_series_that_allows_no_seg_is_written_as_nifti_and_said_to_lack_it(
    tmp_path: Path,
    make_series: Any,
    make_bundle: Callable[..., Path],
    truth_of: Callable[[np.ndarray], np.ndarray],
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    series = make_series(tmp_path / "in", level=200)
    for file in series.files:
        ds = pydicom.dcmread(file)
        del ds.FrameOfReferenceUID
        ds.save_as(file)
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    (case,) = summary.cases
    assert (summary.exit_code, summary.state) == (3, "partial")
    assert (case.outcome, case.code) == ("written", "SEG_NOT_WRITTEN")
    assert "FrameOfReferenceUID" in case.detail
    assert not any(name.endswith(".dcm") for name in case.files)
    labels = nib.load(tmp_path / "out" / "cases" / case.case_id / "segmentation.nii.gz")
    np.testing.assert_array_equal(np.asarray(labels.dataobj), truth_of(series.voxels))


def test_modality_and_dimensions_of_the_contract(
    tmp_path: Path, make_series: Any, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle", modalities=("CT",))
    make_series(tmp_path / "in" / "mr", level=200)
    nib.save(nib.Nifti1Image(np.eye(9, dtype=np.int16)[..., None], LPS), tmp_path / "in" / "f.nii")
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert summary.exit_code == 4
    assert [case.code for case in summary.cases] == ["CONTRACT_MISMATCH"] * 2


def test_label_maps_beside_images_are_not_predicted_on(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    for folder in ("images", "labels"):
        save_nifti(tmp_path / "in" / folder / "a.nii.gz")
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu", keep_images=False)
    assert [case.case_id for case in summary.cases] == ["a"]
    assert summary.ignored == 1
    assert not (tmp_path / "out" / "cases" / "a" / "image.nii.gz").exists()


def test_files_of_one_name_get_names_of_their_own(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    for index, name in enumerate(("one/t1.nii.gz", "two/t1.nii.gz", "two_T1.nii", "two/t1.nii")):
        save_nifti(tmp_path / "in" / name, seed=index)
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    names = [case.case_id.lower() for case in summary.cases]
    assert summary.exit_code == 0
    assert len(set(names)) == 4


def test_classification_writes_a_table(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(tmp_path / "bundle", kind="classification", dims=2, classes=2, real=True)
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        picture = rng.integers(0, 255, (20, 16)).astype(np.uint8)
        Picture.fromarray(picture).save(tmp_path / "in" / f"{name}.png")
    save_nifti(tmp_path / "in" / "volume.nii.gz")
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert summary.exit_code == 3
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert [row["case_id"] for row in rows] == ["a", "b"]
    for row in rows:
        shares = {name: float(row[f"p_{name}"]) for name in ("well", "ill")}
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
        assert row["predicted"] == max(shares, key=lambda name: shares[name])
    assert read_json(tmp_path / "out" / "status.json")["task"] == "classification"


def test_regression_writes_a_table_in_the_targets_unit(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle", kind="regression", classes=1, real=True)
    voxels = save_nifti(tmp_path / "in" / "volume.nii.gz")
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert summary.exit_code == 0
    (row,) = csv.DictReader((tmp_path / "out" / "predictions.csv").open())
    assert list(row) == ["case_id", "source", "modality", "predicted"]
    loaded = Bundle.load(bundle)
    array = voxels[::-1, ::-1].astype(np.float32)[None]  # to RAS+
    stats, contract = statistics(array), loaded.spec.contract
    output = volume_outputs(loaded.model(), array, (1.0, 1.5, 2.0), stats, contract)
    assert float(row["predicted"]) == pytest.approx(60.0 + 10.0 * float(output[0]), rel=1e-5)
    assert read_json(tmp_path / "out" / "status.json")["task"] == "regression"


def test_two_dimensional_segmentation_of_a_single_slice(
    tmp_path: Path,
    make_series: Any,
    make_bundle: Callable[..., Path],
    truth_of: Callable[[np.ndarray], np.ndarray],
) -> None:
    bundle = make_bundle(tmp_path / "bundle", dims=2)
    series = make_series(tmp_path / "in", shape=(20, 14, 1), angles=(30.0, 5.0, 0.0), level=200)
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert summary.exit_code == 0
    truth = truth_of(series.voxels)
    seg = next((tmp_path / "out").rglob("segmentation.dcm"))
    check_seg(seg, truth, series.affine, {"grey": 1, "bright": 2})
    labels = nib.load(next((tmp_path / "out").rglob("segmentation.nii.gz")))
    np.testing.assert_array_equal(np.asarray(labels.dataobj), truth)


def test_a_network_with_weights_runs_end_to_end(
    tmp_path: Path, make_series: Any, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle", real=True)
    make_series(tmp_path / "in", level=200)
    first = predict(bundle, tmp_path / "in", tmp_path / "one", device="cpu")
    second = predict(
        bundle,
        tmp_path / "in",
        tmp_path / "two",
        device="cpu",
        key_file=tmp_path / "one.private" / "site.key",
    )
    assert first.exit_code == second.exit_code == 0
    assert first.cases[0].case_id == second.cases[0].case_id
    one, two = (
        nib.load(next((tmp_path / out).rglob("segmentation.nii.gz"))).get_fdata()
        for out in ("one", "two")
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.data
def test_a_real_series_is_segmented_on_the_right_voxels(
    tmp_path: Path, data_root: Path, make_bundle: Callable[..., Path]
) -> None:
    """The SEG of a real oblique MR series, read by the source slices' own pixels."""
    bundle = make_bundle(tmp_path / "bundle", modalities=("MR",))
    folder = next((data_root / "dicom" / "identified").glob("11_HCropVolume*"))
    summary = predict(bundle, folder, tmp_path / "out", device="cpu")
    assert summary.exit_code == 0
    (case,) = summary.cases
    seg = pydicom.dcmread(tmp_path / "out" / "cases" / case.case_id / "segmentation.dcm")
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    slices = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, sorted(folder.rglob("*.dcm")))}
    checked = 0
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        name = seg.SegmentSequence[
            groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1
        ].SegmentLabel
        source = slices[
            groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        ]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(
            np.array(position, float), np.array(source.ImagePositionPatient, float), atol=1e-3
        )
        values = source.pixel_array * float(source.get("RescaleSlope", 1)) + float(
            source.get("RescaleIntercept", 0)
        )
        scaled = np.clip(values, 0, 200) / 100 - 1
        want = np.abs(scaled[..., None] - np.array([-1.0, 0.0, 1.0])).argmin(-1)
        np.testing.assert_array_equal(frame, want == {"grey": 1, "bright": 2}[name])
        checked += 1
    assert checked > 10
