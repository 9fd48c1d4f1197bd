"""Every real series that both read: the same voxels as dcm2niix, the affine within 1e-3 mm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.ingest.dicom import find_series
from medssl.ingest.scan import Kind, scan

pytestmark = pytest.mark.data

ACCEPTED = {
    # one file of each series (two series with one UID would show as one key)
    "identified/11-T1post-18670": 22,
    "identified/11_HCropVolume": 40,
    "identified/36468-FLAIRreg-58706": 22,
    "vendors/ge/anatomical/001": 4,
    "vendors/generic/anatomical/001": 4,
    "vendors/generic/anatomical/001_implicit": 4,
    "vendors/generic/anatomical/002_non_isotropic": 4,
    "vendors/generic/compressed/001": 4,
    "vendors/hitachi/anatomical/001": 4,
    "vendors/philips/anatomical/001": 4,
    "vendors/siemens/anatomical/001": 4,
}
REJECTED = {
    "COLOUR_UNSUPPORTED": 4,
    "ENHANCED_UNSUPPORTED": 9,
    "MOSAIC_UNSUPPORTED": 53,
    "TIME_SERIES_UNSUPPORTED": 174,
}


@pytest.fixture(scope="module")
def outcome(data_root):
    files = [item.path for item in scan(data_root / "dicom") if item.kind is Kind.DICOM]
    return find_series(files, single_slices=True)


@pytest.fixture(scope="module")
def converted(data_root, tmp_path_factory):
    """SeriesInstanceUID -> what dcm2niix made of it."""
    program = Path(sys.executable).with_name("dcm2niix")
    if not program.exists():
        pytest.skip("dcm2niix is not installed beside Python")
    out = tmp_path_factory.mktemp("dcm2niix")
    command = [
        program,
        "-z",
        "n",
        "-b",
        "y",
        "-ba",
        "n",
        "-f",
        "%j",
        "-o",
        out,
        data_root / "dicom",
    ]
    subprocess.run(command, check=True, capture_output=True)
    made = {}
    for sidecar in out.glob("*.json"):
        uid = json.loads(sidecar.read_text())["SeriesInstanceUID"]
        made.setdefault(uid, []).append(sidecar.with_suffix(".nii"))
    return {uid: paths[0] for uid, paths in made.items() if len(paths) == 1}


def test_what_is_accepted_and_what_is_not(outcome, data_root):
    series, rejections = outcome
    base = data_root / "dicom"
    volumes = {
        s.files[0].parent.relative_to(base).as_posix(): len(s.files) for s in series if s.dims == 3
    }
    assert volumes == ACCEPTED
    assert sum(s.dims == 2 for s in series) == 25
    counts: dict[str, int] = {}
    for rejection in rejections:
        counts[rejection.code] = counts.get(rejection.code, 0) + len(rejection.files)
    assert counts == REJECTED


def test_volumes_equal_dcm2niix(outcome, converted):
    compared = 0
    for series in outcome[0]:
        if series.dims == 2 or series.series_uid not in converted:
            continue
        theirs = nib.as_closest_canonical(nib.load(converted[series.series_uid]))
        ours = nib.as_closest_canonical(
            nib.Nifti1Image(series.decode()[0].astype(np.float64), series.affine)
        )
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
        np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), rtol=1e-6)
        compared += 1
    assert compared == len(ACCEPTED)


def test_single_ct_slices_equal_dcm2niix(outcome, converted):
    compared = 0
    for series in outcome[0]:
        if series.dims == 3 or series.series_uid not in converted:
            continue
        theirs = nib.load(converted[series.series_uid])
        ours = series.decode()[0]
        # dcm2niix writes rows from bottom to top.
        np.testing.assert_array_equal(ours.T[:, ::-1], theirs.get_fdata()[..., 0])
        compared += 1
    assert compared >= 20
