from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from medssl.demo.measure import score_predictions
from medssl.errors import MedsslError
from medssl.phantom import Phantom, torso


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return torso(2, (36, 28, 16), (10.0, 10.0, 13.0))


def _write(folder: Path, label: np.ndarray, affine: np.ndarray, axes: str = "RAS") -> None:
    folder.mkdir(parents=True)
    image = nib.Nifti1Image(label, affine)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(axes)))
    nib.save(image.as_reoriented(turn), folder / "segmentation.nii.gz")


def test_a_perfect_prediction_scores_one_in_any_orientation(
    phantom: Phantom, tmp_path: Path
) -> None:
    _write(tmp_path / "cases" / "one", phantom.label[0], phantom.affine, "LPS")
    (found,) = score_predictions(tmp_path, [phantom], ["one"], 1.0)
    np.testing.assert_array_equal(found.label, phantom.label[0])
    assert all(m.dice == 1 for m in found.metrics.values() if not m.empty)
    assert found.files == ["segmentation.nii.gz"]


def test_a_prediction_beside_the_patient_is_refused(phantom: Phantom, tmp_path: Path) -> None:
    moved = phantom.affine.copy()
    moved[0, 3] += 3.0
    _write(tmp_path / "cases" / "one", phantom.label[0], moved)
    with pytest.raises(MedsslError, match="PREDICTION_MOVED"):
        score_predictions(tmp_path, [phantom], ["one"], 1.0)


def test_a_missing_prediction_is_named_by_its_pseudonym(phantom: Phantom, tmp_path: Path) -> None:
    with pytest.raises(MedsslError, match="ser-1234") as caught:
        score_predictions(tmp_path, [phantom], ["ser-1234"], 1.0)
    assert caught.value.code == "INPUT_MISSING"
