from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medssl.phantom import Phantom, head, torso
from medssl.phantom.dicom_writer import write_series
from medssl.phantom.nifti_writer import write_folder


@pytest.fixture(scope="module", params=["torso", "head"])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    if request.param == "torso":
        return torso(3, (40, 28, 12), (9.0, 9.0, 12.0))
    return head(3, (30, 36, 20), (6.0, 6.0, 9.0))


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (x, y, z) and RAS+ affine of a series, read by SimpleITK."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine


def test_a_series_reads_back_in_the_same_place(phantom: Phantom, tmp_path: Path) -> None:
    files = write_series(phantom, tmp_path)
    assert len(files) == phantom.image.shape[3]
    voxels, affine = _read(files[0].parent)
    # SimpleITK's columns run right to left and its rows front to back; ours are RAS+.
    expected = phantom.image[0][::-1, ::-1]
    np.testing.assert_array_equal(voxels, expected)
    flip = np.eye(4)
    flip[0, 0] = flip[1, 1] = -1
    flip[:2, 3] = np.array(voxels.shape[:2]) - 1
    np.testing.assert_allclose(affine @ flip, phantom.affine, atol=1e-4)


def test_the_headers_say_what_they_must(phantom: Phantom, tmp_path: Path) -> None:
    slices = [pydicom.dcmread(path) for path in write_series(phantom, tmp_path)]
    first = slices[0]
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert len({item.SOPInstanceUID for item in slices}) == len(slices)
    assert len({item.SeriesInstanceUID for item in slices}) == 1
    assert first.Modality == phantom.modality
    assert str(first.PatientName).startswith("Phantom^")
    if phantom.modality == "CT":
        hu = first.pixel_array * first.RescaleSlope + first.RescaleIntercept
        assert hu.min() >= -1024
        assert first.RescaleType == "HU"
    else:
        assert "RescaleSlope" not in first
        assert abs(first.ImageOrientationPatient[5]) > 0.01


def test_uids_follow_from_the_patient(phantom: Phantom, tmp_path: Path) -> None:
    one = pydicom.dcmread(write_series(phantom, tmp_path / "one")[0])
    two = pydicom.dcmread(write_series(phantom, tmp_path / "two")[0])
    assert one.SOPInstanceUID == two.SOPInstanceUID
    other = torso(4, (40, 28, 12), (9.0, 9.0, 12.0))
    assert pydicom.dcmread(write_series(other, tmp_path)[0]).SeriesInstanceUID != (
        one.SeriesInstanceUID
    )


def test_nothing_is_overwritten(phantom: Phantom, tmp_path: Path) -> None:
    write_series(phantom, tmp_path)
    with pytest.raises(FileExistsError):
        write_series(phantom, tmp_path)


def test_nifti_folder(phantom: Phantom, tmp_path: Path) -> None:
    out = tmp_path / "nifti"
    (path,) = write_folder([phantom], out, {phantom.patient_id: "train"})
    image = nib.load(path)
    label = nib.load(out / "labels" / path.name)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), phantom.image[0])
    np.testing.assert_array_equal(np.asanyarray(label.dataobj), phantom.label[0])
    np.testing.assert_allclose(image.affine, phantom.affine, atol=1e-4)
    assert label.get_data_dtype() == np.uint8
    with (out / "subjects.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    expected = (path.name, phantom.patient_id, phantom.modality, "train")
    assert tuple(row.values()) == expected
    assert tuple(row) == ("file", "subject", "modality", "split")
    with (out / "labels.csv").open() as stream:
        names = {int(line["value"]): line["name"] for line in csv.DictReader(stream)}
    assert names == phantom.label_names


def test_one_folder_holds_one_kind_of_phantom(tmp_path: Path) -> None:
    two = [torso(1, (30, 22, 10), (12.0, 12.0, 14.0)), head(1, (20, 24, 12), (9.0, 9.0, 15.0))]
    with pytest.raises(ValueError, match="label names"):
        write_folder(two, tmp_path / "both")
