"""A whole run in which something is wrong: what is refused, and what goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from predict_runs import names_in, read_json, save_nifti

import medssl.predict.run as run_module
import medssl.predict.segmentation as segmentation_module
from medssl.errors import MedsslError
from medssl.predict.run import predict


def test_one_bad_case_does_not_stop_the_rest(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    save_nifti(tmp_path / "in" / "a.nii.gz")
    save_nifti(tmp_path / "in" / "c.nii.gz")
    whole = (tmp_path / "in" / "a.nii.gz").read_bytes()
    (tmp_path / "in" / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert summary.exit_code == 3
    outcomes = {case.case_id: (case.outcome, case.code) for case in summary.cases}
    assert outcomes == {
        "a": ("written", ""),
        "b": ("rejected", "FILE_TRUNCATED"),
        "c": ("written", ""),
    }
    assert names_in(tmp_path / "out" / "cases") == ["a", "c"]


def test_nothing_usable(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("nothing here")
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert (summary.exit_code, summary.state) == (4, "failed")
    assert read_json(tmp_path / "out" / "status.json")["state"] == "failed"


@pytest.mark.parametrize("moved", ["nifti", "seg"])
def test_a_prediction_that_moved_is_not_kept(
    tmp_path: Path,
    make_series: Any,
    make_bundle: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    moved: str,
) -> None:
    """Something between the label map and the disk shifts it: exit 6, and no file stays."""
    bundle = make_bundle(tmp_path / "bundle")
    save_nifti(tmp_path / "in" / "a.nii.gz")
    make_series(tmp_path / "in" / "d", level=200)
    write_nifti, write_seg = segmentation_module.write_nifti, segmentation_module.write_seg

    def shift_nifti(path: Path, array: np.ndarray, grid: Any) -> None:
        write_nifti(path, np.roll(array, 1, axis=0), grid)

    def shift_seg(path: Path, *rest: Any) -> dict[str, int]:
        names = write_seg(path, *rest)
        ds = pydicom.dcmread(path)
        for groups in ds.PerFrameFunctionalGroupsSequence:
            position = groups.PlanePositionSequence[0].ImagePositionPatient
            groups.PlanePositionSequence[0].ImagePositionPatient = [
                float(position[0]) + 1.0,
                position[1],
                position[2],
            ]
        ds.save_as(path)
        return names

    if moved == "nifti":
        monkeypatch.setattr(segmentation_module, "write_nifti", shift_nifti)
    else:
        monkeypatch.setattr(segmentation_module, "write_seg", shift_seg)
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert (summary.exit_code, summary.state) == (6, "failed")
    bad = [case for case in summary.cases if case.code == "PREDICTION_MOVED"]
    assert len(bad) == (2 if moved == "nifti" else 1)
    kept = [] if moved == "nifti" else ["a"]
    assert names_in(tmp_path / "out" / "cases") == kept


def test_a_results_folder_is_never_overwritten(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    save_nifti(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "keep").write_text("mine")
    with pytest.raises(MedsslError) as caught:
        predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert (caught.value.code, caught.value.exit_code) == ("OUT_EXISTS", 2)
    assert names_in(tmp_path / "out") == ["keep"]


def test_wrong_use_leaves_no_results(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    segmentation = make_bundle(tmp_path / "segmentation")
    encoder = make_bundle(tmp_path / "encoder", kind="encoder")
    save_nifti(tmp_path / "in" / "a.nii.gz")
    for bundle, place, device, code in (
        (encoder, tmp_path / "in", "cpu", "CONTRACT_MISMATCH"),
        (segmentation, tmp_path / "nowhere", "cpu", "INPUT_MISSING"),
        (segmentation, tmp_path / "in", "cuda:99", "DEVICE_MISSING"),
        (tmp_path / "none", tmp_path / "in", "cpu", "INPUT_MISSING"),
    ):
        with pytest.raises(MedsslError) as caught:
            predict(bundle, place, tmp_path / "out", device=device)
        assert caught.value.code == code
        assert not (tmp_path / "out").exists()


def test_an_unexpected_failure_is_the_cases_own_and_says_no_more_than_where(
    tmp_path: Path, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    save_nifti(tmp_path / "in" / "a.nii.gz", seed=1)
    save_nifti(tmp_path / "in" / "b.nii.gz", seed=2)
    whole = run_module.segment_image
    calls = []

    def sometimes(*args: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("Findme^Never")
        return whole(*args)

    monkeypatch.setattr(run_module, "segment_image", sometimes)
    summary = predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    assert summary.exit_code == 3
    failed = summary.cases[0]
    assert failed.code == "CASE_FAILED"
    assert failed.detail.startswith("ValueError in test_predict_run_failures.py:")
    assert "Findme" not in (tmp_path / "out" / "status.json").read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left")])
def test_a_run_that_breaks_off_says_so(
    tmp_path: Path,
    make_bundle: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    save_nifti(tmp_path / "in" / "a.nii.gz")
    seen: list[str] = []

    def break_off(*_: Any) -> None:
        seen.append(read_json(tmp_path / "out" / "status.json")["state"])
        raise error

    monkeypatch.setattr(run_module, "write_case", break_off)
    with pytest.raises((KeyboardInterrupt, MedsslError)):
        predict(bundle, tmp_path / "in", tmp_path / "out", device="cpu")
    status = read_json(tmp_path / "out" / "status.json")
    assert seen == ["running"]
    assert status["state"] == "failed"
    assert status["exit_code"] == (5 if isinstance(error, OSError) else 1)
    assert list((tmp_path / "out" / "cases").iterdir()) == []
