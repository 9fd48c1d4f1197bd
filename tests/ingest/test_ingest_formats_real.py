"""The same real scans by way of other formats: the same voxels at the same places."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medssl.ingest.run import ingest
from medssl.store import Store

pytestmark = pytest.mark.data


def volumes(path):
    """Array and affine of every volume of a store, by its bytes."""
    store = Store.open(path)
    found = [(np.asarray(store[v].array()), store[v].affine) for v in store]
    return sorted(found, key=lambda pair: pair[0].tobytes())


def assert_same(one, two):
    assert len(one) == len(two) > 0
    for (array, affine), (other, other_affine) in zip(one, two, strict=True):
        np.testing.assert_array_equal(array, other)
        np.testing.assert_allclose(affine, other_affine, atol=1e-3)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_nifti_by_way_of_simpleitk(data_root, tmp_path, ending):
    (tmp_path / "nifti").mkdir()
    (tmp_path / "other").mkdir()
    for path in sorted((data_root / "hippocampus" / "images").iterdir())[:4]:
        shutil.copy(path, tmp_path / "nifti")
        name = path.name.removesuffix(".nii.gz") + ending
        sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / "other" / name))
    for name in ("nifti", "other"):
        ingest(tmp_path / name, tmp_path / f"{name}-store")
    assert_same(volumes(tmp_path / "nifti-store"), volumes(tmp_path / "other-store"))


@pytest.mark.parametrize("ending", ["zip", "tgz"])
def test_dicom_in_an_archive(data_root, tmp_path, ending):
    folder = data_root / "dicom" / "identified"
    path = tmp_path / f"scans.{ending}"
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    if ending == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, ".")
    key = {"key_file": tmp_path / "key"}
    plain = ingest(folder, tmp_path / "plain", **key)
    packed = ingest(path, tmp_path / "packed", **key)
    assert packed.found == plain.found + 1
    assert packed.counts == {**plain.counts, ("used", ""): plain.counts[("used", "")] + 1}
    one, two = Store.open(tmp_path / "plain").manifest, Store.open(tmp_path / "packed").manifest
    assert one.equals(two)


def test_a_time_series_as_dicom_and_as_the_nifti_of_dcm2niix(data_root, tmp_path):
    program = Path(sys.executable).with_name("dcm2niix")
    if not program.is_file():
        pytest.skip("dcm2niix is not installed")
    folder = min(p for p in (data_root / "dicom" / "epi").iterdir() if p.is_dir())
    (tmp_path / "nifti").mkdir()
    call = [program, "-z", "n", "-b", "n", "-f", "s", "-o", tmp_path / "nifti", folder]
    subprocess.run(call, check=True, capture_output=True)
    for name, path in (("dicom", folder), ("nifti", tmp_path / "nifti")):
        ingest(path, tmp_path / f"{name}-store", modality="MR")
    manifest = Store.open(tmp_path / "nifti-store").manifest
    assert manifest["series_id"].nunique() == 1
    assert all(part.startswith("time=") for part in manifest["part"])
    assert_same(volumes(tmp_path / "dicom-store"), volumes(tmp_path / "nifti-store"))
