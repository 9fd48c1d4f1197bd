from __future__ import annotations

import gzip
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medssl.errors import MedsslError
from medssl.ingest.nifti import read_grid, read_nifti, read_nifti_volumes, same_grid
from medssl.store import Store

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


@pytest.mark.filterwarnings("ignore")
def test_no_flipped_bit_of_a_packed_file_goes_unseen(tmp_path):
    noise = np.random.default_rng(0).integers(0, 999, (5, 5, 5)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", noise)
    data = path.read_bytes()
    refused = 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            array, affine = read_nifti(path)
        except MedsslError:
            refused += 1
            continue
        np.testing.assert_array_equal(array[0], noise)
        np.testing.assert_allclose(affine, AFFINE, atol=1e-6)
    assert refused > 0.9 * len(data)


def test_more_voxels_than_the_header_speaks_of_are_not_dropped(tmp_path):
    path = save(tmp_path / "a.nii", volume(shape=(30, 30, 30, 4)))
    raw = bytearray(path.read_bytes())
    raw[40:42] = (3).to_bytes(2, "little")  # dim[0]: how many dimensions count
    path.write_bytes(raw)
    assert nib.load(path).shape == (30, 30, 30)
    assert code_of(path) == "FILE_UNREADABLE"


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


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_volumes_of_a_time_series(tmp_path, kind, name):
    path = save(tmp_path / name, volume(shape=(3, 4, 5, 7)), kind=kind)
    volumes = read_nifti_volumes(path)
    assert volumes.count == 7
    np.testing.assert_allclose(volumes.affine, AFFINE, atol=1e-6)
    for number in range(7):
        expected = np.asarray(nib.load(path).dataobj[..., number])
        np.testing.assert_array_equal(volumes.volume(number), expected[None])


def test_scaled_volumes_are_those_of_nibabel(tmp_path):
    image = nib.Nifti1Image(volume(shape=(3, 4, 5, 2)), AFFINE)
    image.set_qform(AFFINE, 1)
    image.header.set_slope_inter(0.1, -3)
    nib.save(image, tmp_path / "a.nii")
    volumes = read_nifti_volumes(tmp_path / "a.nii")
    for number in (0, 1):
        expected = nib.load(tmp_path / "a.nii").get_fdata()[..., number]
        np.testing.assert_array_equal(volumes.volume(number)[0], expected)


def test_one_bad_voxel_refuses_the_whole_series(tmp_path):
    values = volume(np.float32, (3, 4, 5, 6))
    values[0, 0, 0, 5] = np.inf
    path = save(tmp_path / "a.nii", values)
    with pytest.raises(MedsslError, match="VOXELS_INVALID"):
        read_nifti_volumes(path)


@pytest.mark.parametrize("shape", [(3, 4, 5, 1, 2), (3, 4, 5, 2, 3)])
def test_a_fifth_dimension_is_refused(tmp_path, shape):
    with pytest.raises(MedsslError, match="TIME_SERIES_UNSUPPORTED"):
        read_nifti_volumes(save(tmp_path / "a.nii", volume(shape=shape)))


@pytest.mark.parametrize(("unit", "code"), [("sec", ""), ("msec", ""), ("hz", "T"), ("ppm", "T")])
def test_a_fourth_dimension_that_is_no_time_is_refused(tmp_path, unit, code):
    path = save(tmp_path / "a.nii", volume(shape=(3, 4, 5, 2)), units="mm")
    image = nib.load(path)
    image.header.set_xyzt_units("mm", unit)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
    if not code:
        assert read_nifti_volumes(path).count == 2
        return
    with pytest.raises(MedsslError, match="TIME_SERIES_UNSUPPORTED"):
        read_nifti_volumes(path)


def test_where_an_image_lies_without_its_voxels(tmp_path):
    path = save(tmp_path / "a.nii", volume(shape=(3, 4, 5, 2)))
    path.write_bytes(path.read_bytes()[:400])
    shape, affine = read_grid(path)
    assert shape == (3, 4, 5)
    np.testing.assert_allclose(affine, AFFINE, atol=1e-6)


def test_a_time_series_in_the_store(tmp_path, ingested):
    (tmp_path / "in" / "images").mkdir(parents=True)
    (tmp_path / "in" / "labels").mkdir()
    values = volume(shape=(3, 4, 5, 3))
    values[..., 2] = values[..., 0]  # the same voxels at another time are another volume
    path = save(tmp_path / "in" / "images" / "a.nii.gz", values)
    save(tmp_path / "in" / "labels" / "a.nii.gz", volume() % 2)
    (tmp_path / "in" / "copy.nii").write_bytes(gzip.decompress(path.read_bytes()))
    save(tmp_path / "in" / "images" / "b.nii.gz", volume())
    save(tmp_path / "in" / "labels" / "b.nii.gz", volume(shape=(3, 4, 5, 2)) % 2)
    (tmp_path / "in" / "copy.nii").rename(tmp_path / "in" / "z.nii")
    summary, rows = ingested()
    assert rows == {
        "images/a.nii.gz": ("used", ""),
        "labels/a.nii.gz": ("used", ""),
        "images/b.nii.gz": ("rejected", "TIME_SERIES_UNSUPPORTED"),
        "labels/b.nii.gz": ("rejected", "TIME_SERIES_UNSUPPORTED"),
        "z.nii": ("rejected", "DUPLICATE_CONFLICT"),  # without its label map
    }
    store = Store.open(tmp_path / "store")
    table = store.manifest.sort_values("part")
    assert list(table["part"]) == ["time=1/3", "time=2/3", "time=3/3"]
    for column in ("subject_id", "study_id", "series_id"):
        assert table[column].nunique() == 1
    assert table["volume_id"].nunique() == summary.volumes == 3
    for number, volume_id in enumerate(table["volume_id"]):
        np.testing.assert_array_equal(store[volume_id].array()[0], values[::-1, ..., number])
        np.testing.assert_array_equal(store[volume_id].label()[0], volume()[::-1] % 2)


def test_channels_of_a_decathlon_task_are_not_times(tmp_path, ingested):
    (tmp_path / "in" / "imagesTr").mkdir(parents=True)
    for name, count in (("a", 2), ("b", 3)):
        save(tmp_path / "in" / "imagesTr" / f"{name}.nii.gz", volume(shape=(3, 4, 5, count)))
    rows = [{"image": f"./imagesTr/{name}.nii.gz"} for name in "ab"]
    text = json.dumps({"modality": {"0": "FLAIR", "1": "T1w"}, "training": rows})
    (tmp_path / "in" / "dataset.json").write_text(text)
    _, outcomes = ingested()
    assert outcomes["imagesTr/a.nii.gz"] == ("used", "")
    assert outcomes["imagesTr/b.nii.gz"] == ("rejected", "TIME_SERIES_UNSUPPORTED")
    parts = Store.open(tmp_path / "store").manifest["part"]
    assert sorted(parts) == ["channel=1/2", "channel=2/2"]
