from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medssl.errors import MedsslError
from medssl.ingest.nifti import read_nifti, same_grid

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 1.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


def volume(dtype=np.int16, shape=(3, 4, 5)):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(path, array, *, sform=AFFINE, qform=AFFINE, units="mm", kind=nib.Nifti1Image):
    image = kind(array, None)
    image.set_sform(sform, 1 if sform is not None else 0)
    image.set_qform(qform, 1 if qform is not None else 0)
    if qform is None and sform is not None:
        image.header.set_zooms(np.linalg.norm(sform[:3, :3], axis=0)[: array.ndim])
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


def code_of(path):
    with pytest.raises(MedsslError) as caught:
        read_nifti(path)
    return caught.value.code


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_and_affine(tmp_path, kind, name):
    array, affine = read_nifti(save(tmp_path / name, volume(), kind=kind))
    np.testing.assert_array_equal(array, volume()[None])
    assert array.dtype == np.int16
    np.testing.assert_allclose(affine, AFFINE, atol=1e-6)


def test_name_does_not_matter(tmp_path):
    save(tmp_path / "a.nii", volume())
    plain, packed = tmp_path / "plain", tmp_path / "packed.nii"
    plain.write_bytes((tmp_path / "a.nii").read_bytes())
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read_nifti(plain)[0], read_nifti(packed)[0])


def test_same_voxel_positions_as_simpleitk(tmp_path):
    path = save(tmp_path / "a.nii", volume(np.float32))
    array, affine = read_nifti(path)
    other = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other).T, array[0])
    lps = other.TransformIndexToPhysicalPoint((2, 1, 3))
    np.testing.assert_allclose(
        np.diag([-1, -1, 1, 1]) @ affine @ [2, 1, 3, 1], [*lps, 1], atol=1e-4
    )


def test_big_endian_and_scaling(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image(volume(np.dtype(">i2")), AFFINE, header)
    image.set_qform(AFFINE, 1)
    image.header.set_slope_inter(0.5, -3)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    array, _ = read_nifti(tmp_path / "a.nii")
    assert array.dtype.isnative
    np.testing.assert_allclose(array[0], nib.load(tmp_path / "a.nii").get_fdata())


@pytest.mark.parametrize(("sform", "qform"), [(AFFINE, None), (None, AFFINE)])
def test_one_form_is_enough(tmp_path, sform, qform):
    _, affine = read_nifti(save(tmp_path / "a.nii", volume(), sform=sform, qform=qform))
    np.testing.assert_allclose(affine, AFFINE, atol=1e-5)


def test_doubtful_geometry_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    moved = AFFINE.copy()
    moved[0, 3] += 1
    assert code_of(save(path, volume(), sform=None, qform=None)) == "AFFINE_INVALID"
    assert code_of(save(path, volume(), qform=moved)) == "AFFINE_AMBIGUOUS"
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.5
    assert code_of(save(path, volume(), sform=sheared, qform=None)) == "AFFINE_INVALID"
    assert code_of(save(path, volume(), units="micron")) == "AFFINE_INVALID"
    singular = AFFINE.copy()
    singular[:, 2] = 0
    image = nib.Nifti1Image(volume(), None)
    image.header["sform_code"] = 1
    image.header["srow_x"], image.header["srow_y"] = singular[0], singular[1]
    nib.save(image, path)
    assert code_of(path) == "AFFINE_INVALID"


def test_voxel_sizes_that_contradict_the_sform_are_refused(tmp_path):
    image = nib.Nifti1Image(volume(), None)
    image.set_sform(AFFINE, 1)
    image.header.set_zooms((1, 1, 1))
    nib.save(image, tmp_path / "a.nii")
    assert code_of(tmp_path / "a.nii") == "AFFINE_AMBIGUOUS"


@pytest.mark.parametrize("zoom", [0.0, np.nan])
def test_impossible_voxel_size(tmp_path, zoom):
    raw = bytearray(save(tmp_path / "a.nii", volume()).read_bytes())
    raw[80:84] = np.float32(zoom).tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    assert code_of(tmp_path / "a.nii") == "SPACING_INVALID"


def test_what_is_no_single_grey_volume_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    assert code_of(save(path, np.zeros((2, 2, 2, 3), np.int16))) == "TIME_SERIES_UNSUPPORTED"
    colour = np.zeros((2, 2, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert code_of(save(path, colour)) == "COLOUR_UNSUPPORTED"
    assert code_of(save(path, np.zeros((2, 2, 2), np.complex64))) == "PIXEL_FORMAT_UNSUPPORTED"
    holed = volume(np.float32)
    holed[1, 1, 1] = np.nan
    assert code_of(save(path, holed)) == "VOXELS_INVALID"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_file_is_refused(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16)
    path = save(tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[:-40])
    assert code_of(path) == "FILE_TRUNCATED"


def test_trailing_single_axes_are_dropped_and_a_single_slice_is_2d(tmp_path):
    four = np.zeros((2, 3, 4, 1), np.int16)
    assert read_nifti(save(tmp_path / "a.nii", four))[0].shape == (1, 2, 3, 4)
    array, affine = read_nifti(save(tmp_path / "b.nii", volume(shape=(3, 4, 1))))
    assert affine is None
    np.testing.assert_array_equal(array[0], volume(shape=(3, 4, 1))[..., 0].T)


def test_same_grid_looks_at_the_far_corner():
    turned = AFFINE.copy()
    turned[0, 1] += 0.01
    assert same_grid(AFFINE, turned, (3, 3, 3))
    assert not same_grid(AFFINE, turned, (3, 300, 3))
