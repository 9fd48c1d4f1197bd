from __future__ import annotations

import itertools

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    RLELossless,
)
from scipy.spatial.transform import Rotation

from medssl.ingest.dicom import find_volumes


def only(files, **options):
    series, rejections = find_volumes(files, **options)
    assert rejections == []
    assert len(series) == 1
    return series[0]


def rejected(files):
    series, rejections = find_volumes(files)
    assert series == []
    assert len(rejections) == 1
    assert sorted(rejections[0].files) == sorted(files)
    return rejections[0].code


def set_tags(where=None, **tags):
    """A change to every slice, or to one."""

    def change(index, data):
        if where is None or index == where:
            for name, value in tags.items():
                setattr(data, name, value)

    return change


def test_voxels_and_files_are_in_slice_order(tmp_path, write_stack):
    files = write_stack(tmp_path)
    series = only(files[::-1])
    assert series.files == files
    assert (series.modality, series.series_uid, series.dims) == ("MR", "1.2.3", 3)
    array = series.decode()
    assert array.shape == (1, 4, 3, 4)
    expected = np.arange(12).reshape(3, 4).T[..., None] + 100 * np.arange(4)
    np.testing.assert_array_equal(array[0], expected)
    np.testing.assert_array_equal(series.affine, np.diag([-1.0, -1.0, 2.0, 1.0]))


counter = itertools.count()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 4)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    shuffle=st.randoms(use_true_random=False),
)
def test_random_series_has_the_known_affine_and_voxels(
    tmp_path, make_slice, turn, spacing, origin, shuffle
):
    folder = tmp_path / str(next(counter))
    folder.mkdir()
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    truth = np.eye(4)
    truth[:3, :3], truth[:3, 3] = axes * spacing, origin
    volume = np.random.default_rng(0).integers(0, 4000, (4, 3, 5)).astype(np.uint16)
    names = [f"f{k}" for k in range(5)]
    shuffle.shuffle(names)
    for k, name in enumerate(names):
        data = make_slice(
            np.ascontiguousarray(volume[:, :, k].T),
            position=tuple(truth[:3, 3] + k * truth[:3, 2]),
            orientation=(*axes[:, 0], *axes[:, 1]),
            spacing=(spacing[1], spacing[0]),
        )
        data.save_as(folder / name, enforce_file_format=True)
    series = only(folder.iterdir())
    np.testing.assert_allclose(series.affine, np.diag([-1, -1, 1, 1]) @ truth, atol=1e-3)
    np.testing.assert_array_equal(series.decode()[0], volume)


def test_single_slice_is_refused_or_two_dimensional(tmp_path, write_stack):
    files = write_stack(tmp_path, 1)
    assert rejected(files) == "SPACING_UNKNOWN"
    series = only(files, single_slices=True)
    assert (series.dims, series.affine) == (2, None)
    np.testing.assert_array_equal(series.decode(), np.arange(12).reshape(1, 3, 4))


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1"}, "DICOM_TAG_MISSING"),
        ({"NumberOfFrames": 3}, "MODALITY_UNSUPPORTED"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "MOSAIC_UNSUPPORTED"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "COLOUR_UNSUPPORTED"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "COLOUR_UNSUPPORTED"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "DERIVED"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}, "DICOM_TAG_MISSING"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "LOCALIZER"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "DERIVED"),
        ({"GantryDetectorTilt": "12"}, "GANTRY_TILT"),
        ({"HighBit": 12}, "PIXEL_FORMAT_UNSUPPORTED"),
        ({"PixelRepresentation": 2}, "DICOM_TAG_INVALID"),
        ({"RescaleSlope": "2"}, "DICOM_TAG_MISSING"),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, "DICOM_TAG_INVALID"),
        ({"PixelSpacing": None}, "DICOM_TAG_MISSING"),
        ({"PixelSpacing": ["0", "1"]}, "SPACING_INVALID"),
        ({"ImagePositionPatient": ["0", "1"]}, "DICOM_TAG_INVALID"),
        ({"ImageOrientationPatient": None}, "DICOM_TAG_MISSING"),
        ({"Rows": 0}, "DICOM_TAG_INVALID"),
        ({"Rows": None}, "MODALITY_UNSUPPORTED"),
    ],
)
def test_one_slice_of_this_kind_refuses_the_whole_series(tmp_path, write_stack, tags, code):
    assert rejected(write_stack(tmp_path, change=set_tags(2, **tags))) == code


def test_text_where_a_number_belongs(tmp_path, write_stack):
    files = write_stack(tmp_path)
    raw = files[1].read_bytes()
    files[1].write_bytes(raw.replace(b"2.000000000000", b"Jane0000000000"))
    assert rejected(files) == "DICOM_TAG_INVALID"


def test_ct_without_rescale_is_refused(tmp_path, make_slice):
    data = make_slice(np.zeros((2, 2), np.uint16), modality="CT", RescaleSlope=None)
    del data.RescaleIntercept
    data.save_as(tmp_path / "a", enforce_file_format=True)
    assert rejected([tmp_path / "a"]) == "DICOM_TAG_MISSING"


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"PatientID": "P2"}, "SERIES_MIXED"),
        ({"FrameOfReferenceUID": "1.2.10"}, "SERIES_MIXED"),
        ({"EchoTime": "90"}, "SERIES_MIXED"),
        ({"Columns": 2}, "SHAPE_MIXED"),
    ],
)
def test_slices_that_do_not_belong_together(tmp_path, write_stack, tags, code):
    assert rejected(write_stack(tmp_path, change=set_tags(2, **tags))) == code


def test_missing_middle_slice_refuses_every_file(tmp_path, write_stack):
    assert rejected(write_stack(tmp_path, heights=[0, 2, 4, 8, 10])) == "SLICE_MISSING"


def test_several_series_in_one_folder_are_told_apart(tmp_path, write_stack):
    good = write_stack(tmp_path / "a", series="1.1")
    bad = write_stack(tmp_path / "b", series="1.2", heights=[0, 2, 2, 4])
    junk = tmp_path / "junk"
    junk.write_bytes(bytes(128) + b"DICM" + b"\x00" * 40)
    series, rejections = find_volumes([*bad, junk, *good])
    assert [s.files for s in series] == [good]
    assert {r.code for r in rejections} == {"SLICE_DUPLICATE", "FILE_UNREADABLE"}
    accounted = [f for s in series for f in s.files] + [f for r in rejections for f in r.files]
    assert sorted(accounted) == sorted([*good, *bad, junk])


def test_copies_count_once_and_changed_copies_refuse_the_series(tmp_path, write_stack):
    files = write_stack(tmp_path)
    copy = tmp_path / "zcopy"
    copy.write_bytes(files[1].read_bytes())
    series = only([*files, copy])
    assert series.files == files
    assert series.duplicates == [copy]
    data = pydicom.dcmread(copy)
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(copy)
    assert rejected([*files, copy]) == "DUPLICATE_CONFLICT"


def test_the_same_image_in_another_transfer_syntax_is_a_duplicate(tmp_path, write_stack):
    files = write_stack(tmp_path)
    data = pydicom.dcmread(files[0])
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(tmp_path / "rle")
    series = only([*files, tmp_path / "rle"])
    assert series.duplicates == [tmp_path / "rle"]


def test_no_rejection_quotes_an_identifier(tmp_path, write_stack, recwarn):
    def change(index, data):
        data.ImagePositionPatient = None
        data.PatientID = f"Jane{index}"

    _, rejections = find_volumes(write_stack(tmp_path, change=change))
    assert rejections
    assert all("Jane" not in r.detail for r in rejections)
    assert len(recwarn) == 0


def test_dicomdir_is_no_image(tmp_path, make_slice):
    data = make_slice(np.zeros((2, 2), np.uint16))
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    data.save_as(tmp_path / "DICOMDIR")
    _, (rejection,) = find_volumes([tmp_path / "DICOMDIR"])
    assert rejection.code == "NOT_AN_IMAGE"


def test_private_mosaic_count_is_seen_without_the_image_type(tmp_path, make_slice):
    data = make_slice(np.zeros((2, 2), np.uint16))
    block = data.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", 35)
    data.save_as(tmp_path / "a", enforce_file_format=True)
    assert rejected([tmp_path / "a"]) == "MOSAIC_UNSUPPORTED"


@pytest.mark.parametrize("others", [0, 1])
def test_a_lost_header_costs_the_series_that_has_the_folder_for_itself(
    tmp_path, write_stack, others
):
    files = write_stack(tmp_path, 4, series="1.1")
    for other in range(others):
        write_stack(tmp_path / "more", 4, series="1.2", heights=[50.0, 52.0, 54.0, 56.0])
        for index, path in enumerate(sorted((tmp_path / "more").iterdir())):
            path.rename(tmp_path / f"other{other}_{index}")
    files[-1].write_bytes(files[-1].read_bytes()[:200])  # the slice at an end
    paths = [path for path in tmp_path.iterdir() if path.is_file()]
    volumes, rejections = find_volumes(paths)
    assert [len(r.files) for r in rejections] == [1 if others else 4]
    assert {r.code for r in rejections} == {"FILE_UNREADABLE"}
    assert len(volumes) == 2 * others
