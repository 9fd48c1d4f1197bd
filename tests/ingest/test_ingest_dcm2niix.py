"""Every real series that both read: the same voxels as dcm2niix, the affine within 1e-3 mm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.ingest.dicom import find_volumes
from medssl.ingest.scan import Kind, scan

pytestmark = pytest.mark.data

VOLUMES = {  # of 46 series, by how their slices are stored
    "classic": 11 + 10 + 2 + 4 + 2,
    "enhanced": 2 + 4 + 1 + 1 + 4 + 1,
    "mosaic": 2 * 25,
}
REJECTED = {
    "DERIVED": 4,  # colour secondary captures
    "DUPLICATE_CONFLICT": 3,  # three storages of one picture that differ above the stored bits
}


@pytest.fixture(scope="module")
def outcome(data_root):
    files = [item.path for item in scan(data_root / "dicom") if item.kind is Kind.DICOM]
    return find_volumes(files, single_slices=True)


@pytest.fixture(scope="module")
def converted(data_root, tmp_path_factory):
    """SeriesInstanceUID -> the files dcm2niix made of it.

    Philips twice, to have values as DICOM defines them and not by Philips' private scaling.
    """
    program = Path(sys.executable).with_name("dcm2niix")
    if not program.exists():
        pytest.skip("dcm2niix is not installed beside Python")
    dicom = data_root / "dicom"
    made: dict[str, list[Path]] = {}
    philips = [dicom / "enhanced" / "Philips", *dicom.glob("vendors/philips*")]
    for scaling, folder in [("y", dicom), *(("n", folder) for folder in philips)]:
        out = tmp_path_factory.mktemp("dcm2niix")
        options = f"-p {scaling} -z n -b y -ba n -f %j_%r -o".split()
        subprocess.run([program, *options, out, folder], check=True, capture_output=True)
        found: dict[str, list[Path]] = {}
        for sidecar in sorted(out.glob("*.json")):
            uid = json.loads(sidecar.read_text())["SeriesInstanceUID"]
            found.setdefault(uid, []).append(sidecar.with_suffix(".nii"))
        made |= found
    return made


def volumes_of(files: list[Path]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Affine and voxels of every volume, canonical."""
    found = []
    for path in files:
        image = nib.as_closest_canonical(nib.load(path))
        voxels = image.get_fdata()
        voxels = voxels[..., None] if voxels.ndim == 3 else voxels
        found += [(image.affine, voxels[..., time]) for time in range(voxels.shape[-1])]
    return found


def test_what_is_accepted_and_what_is_not(outcome):
    volumes, rejections = outcome
    assert Counter(v.kind for v in volumes if v.dims == 3) == VOLUMES
    assert sum(v.dims == 2 for v in volumes) == 25
    counts: Counter[str] = Counter()
    for rejection in rejections:
        counts[rejection.code] += len(rejection.files)
    assert counts == REJECTED


def same(ours: nib.Nifti1Image, affine: np.ndarray, voxels: np.ndarray) -> bool:
    return (
        ours.shape == voxels.shape
        and np.allclose(ours.affine, affine, atol=1e-3)
        and np.allclose(ours.get_fdata(), voxels, rtol=1e-5)
    )


def test_volumes_equal_dcm2niix(outcome, converted):
    series = {v.series_uid for v in outcome[0] if v.dims == 3}
    for uid in series:
        own = [v for v in outcome[0] if v.series_uid == uid]
        theirs = volumes_of(converted[uid])
        assert len(own) == len(theirs)
        for volume in own:
            voxels = volume.decode()[0].astype(np.float64)
            ours = nib.as_closest_canonical(nib.Nifti1Image(voxels, volume.affine))
            fits = [i for i, other in enumerate(theirs) if same(ours, *other)]
            assert fits, (volume.files[0].parent.name, volume.part)
            theirs.pop(fits[0])
    assert len(series) == 46


def test_times_are_in_the_order_of_dcm2niix(outcome, converted):
    """Which volume is the first matters to whoever uses the time."""
    several = {v.series_uid for v in outcome[0] if v.part and "image_type" not in v.part}
    for uid in several:
        own = [v for v in outcome[0] if v.series_uid == uid]
        for volume, (affine, voxels) in zip(own, volumes_of(converted[uid]), strict=True):
            found = volume.decode()[0].astype(np.float64)
            assert same(
                nib.as_closest_canonical(nib.Nifti1Image(found, volume.affine)), affine, voxels
            )
    assert len(several) > 30


def test_single_ct_slices_equal_dcm2niix(outcome, converted):
    compared = 0
    for volume in outcome[0]:
        found = converted.get(volume.series_uid, [])
        if volume.dims == 3 or len(found) != 1:
            continue
        ours = volume.decode()[0]
        # dcm2niix writes rows from bottom to top.
        np.testing.assert_array_equal(ours.T[:, ::-1], nib.load(found[0]).get_fdata()[..., 0])
        compared += 1
    assert compared >= 20
