"""From stored pixels to values: rescaling, bits, transfer syntaxes, damage."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from medssl.errors import MedsslError
from medssl.ingest import pixels
from medssl.ingest.dicom import find_volumes


def only(files, **options):
    series, rejections = find_volumes(files, **options)
    assert rejections == []
    assert len(series) == 1
    return series[0]


def set_tags(where=None, **tags):
    """A change to every slice, or to one."""

    def change(index, data):
        if where is None or index == where:
            for name, value in tags.items():
                setattr(data, name, value)

    return change


def test_rescale_is_applied_per_slice(tmp_path, write_stack):
    def change(index, data):
        data.RescaleSlope, data.RescaleIntercept = str(0.5 + index), "-10"

    array = only(write_stack(tmp_path, 3, change=change)).decode()
    assert array.dtype == np.float32
    assert array[0, 1, 0, 2] == pytest.approx(2.5 * 201 - 10)


def test_ct_is_in_hounsfield_units(tmp_path, write_stack):
    array = only(write_stack(tmp_path, modality="CT")).decode()
    assert np.issubdtype(array.dtype, np.integer)
    assert array.min() == -1024


def test_monochrome1_keeps_the_values(tmp_path, write_stack):
    files = write_stack(tmp_path, change=set_tags(PhotometricInterpretation="MONOCHROME1"))
    assert only(files).decode()[0, 3, 2, 3] == 311


def test_signed_twelve_bit_values_are_extended(tmp_path, make_slice):
    stored = np.array([[0x000, 0x7FF], [0x800, 0xFFF]], dtype=np.uint16)
    data = make_slice(stored, bits=12, PixelRepresentation=1)
    data.save_as(tmp_path / "a", enforce_file_format=True)
    array = only([tmp_path / "a"], single_slices=True).decode()
    np.testing.assert_array_equal(array[0], [[0, 2047], [-2048, -1]])


@pytest.mark.parametrize("sign", [0, 1])
def test_something_above_the_stored_bits_is_refused(tmp_path, make_slice, sign):
    stored = np.array([[0x000, 0x7FF], [0x800, 0x1FFF]], dtype=np.uint16)
    data = make_slice(stored, bits=12, PixelRepresentation=sign)
    data.save_as(tmp_path / "a", enforce_file_format=True)
    with pytest.raises(MedsslError, match="PIXEL_FORMAT_UNSUPPORTED"):
        only([tmp_path / "a"], single_slices=True).decode()


def test_a_copy_of_the_sign_above_the_stored_bits_is_fine(tmp_path, make_slice):
    stored = np.array([[0, -1], [-2048, 2047]], dtype=np.int16)
    make_slice(stored, bits=12).save_as(tmp_path / "a", enforce_file_format=True)
    array = only([tmp_path / "a"], single_slices=True).decode()
    np.testing.assert_array_equal(array[0], stored)


@pytest.mark.parametrize(
    ("bits", "signed", "values"),
    [(12, False, [0, 4096]), (12, True, [-2049, 0]), (12, True, [-1, 4095])],
)
def test_decoded_values_beyond_the_stated_bits_are_refused(bits, signed, values):
    with pytest.raises(MedsslError, match="PIXEL_FORMAT_UNSUPPORTED"):
        pixels._true_values(np.array([values]), bits, signed)


@pytest.mark.data
def test_real_twelve_bit_files_with_filled_high_bits_are_refused(data_root, tmp_path):
    for path in sorted((data_root / "dicom" / "twelve_bit").iterdir()):
        data = pydicom.dcmread(path)
        data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]  # as if they were no mosaics
        data.pop(0x0019100A, None)
        data.save_as(tmp_path / path.name)
        series = only([tmp_path / path.name], single_slices=True)
        with pytest.raises(MedsslError, match="PIXEL_FORMAT_UNSUPPORTED"):
            series.decode()


def test_truncated_file_is_refused_when_decoded(tmp_path, write_stack):
    files = write_stack(tmp_path)
    files[2].write_bytes(files[2].read_bytes()[:-5])
    series, rejections = find_volumes(files)
    if series:
        with pytest.raises(MedsslError) as caught:
            series[0].decode()
        assert caught.value.code in ("FILE_TRUNCATED", "FILE_UNREADABLE")
    else:
        assert rejections[0].code == "FILE_UNREADABLE"


def test_missing_decoder_names_the_extra(tmp_path, write_stack, monkeypatch):
    files = write_stack(tmp_path)
    data = pydicom.dcmread(files[0])
    data.compress(RLELossless, generate_instance_uid=False)
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.save_as(files[0])

    class Absent:
        is_available = False

    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda syntax: Absent)
    with pytest.raises(MedsslError, match=r"DECODER_MISSING.*medssl\[jpeg\]"):
        only(files).decode()


def test_damaged_compressed_pixels_are_refused(tmp_path, write_stack):
    files = write_stack(tmp_path)
    data = pydicom.dcmread(files[0])
    data.compress(RLELossless, generate_instance_uid=False)
    data.PixelData = pydicom.encaps.encapsulate([b"\x07" * 64])
    data.save_as(files[0])
    with pytest.raises(MedsslError, match="DECODE_FAILED"):
        only(files).decode()


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_other_plain_transfer_syntaxes_hold_the_same_volume(tmp_path, write_stack, syntax):
    files = write_stack(tmp_path, PixelRepresentation=1)
    before = only(files).decode()
    for file in files:
        data = pydicom.dcmread(file)
        if syntax is ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").byteswap().tobytes()
        data.file_meta.TransferSyntaxUID = syntax
        implicit = syntax is ImplicitVRLittleEndian
        little = syntax is not ExplicitVRBigEndian
        pydicom.dcmwrite(file, data, implicit_vr=implicit, little_endian=little)
    np.testing.assert_array_equal(only(files).decode(), before)
