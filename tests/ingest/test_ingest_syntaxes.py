"""Compressed and unusual ways to store pixels: every value as it was."""

from __future__ import annotations

import base64

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from medssl.errors import MedsslError
from medssl.ingest.dicom import find_volumes

# 16 rows of 20 columns, 12 bits: 12 * index modulo 4096, encoded losslessly with OpenJPH 0.26.3.
HTJ2K = base64.b64decode(
    "/0//UQApQAAAAAAUAAAAEAAAAAAAAAAAAAAAFAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB"
    "/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAI8AAf+TwAAmq/YFB3QA"
    "wAASgIoBh3QAwAARwAAVACdzACJRJP4A4jQAwAASQAAVYPUicwCMyAhG/AAhAHdWAMAAFRAABXg0pfTX4At1ADa0wQYb"
    "bPjgFEZSgey4AMAAKyAAFrBmZmZm7+Cnp6fCeADevb29vb29vb29/oY9jGB79jGB7LwA/9k="
)
HTJ2K_VALUES = (np.arange(16 * 20).reshape(16, 20) * 12 % 4096).astype(np.uint16)


def decoded(tmp_path, data):
    data.save_as(tmp_path / "one", enforce_file_format=True)
    (volume,), rejections = find_volumes([tmp_path / "one"], single_slices=True)
    assert rejections == []
    return volume.decode()[0]


@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K])
def test_htj2k_is_decoded_where_a_decoder_is_installed(tmp_path, make_slice, syntax):
    if not get_decoder(syntax).is_available:
        pytest.skip("no decoder for HTJ2K is installed")
    data = make_slice(HTJ2K_VALUES, bits=12)
    data.PixelData = encapsulate([HTJ2K])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(decoded(tmp_path, data), HTJ2K_VALUES)


def test_without_a_decoder_it_is_refused_with_advice(tmp_path, make_slice):
    data = make_slice(HTJ2K_VALUES, bits=12)
    data.PixelData = encapsulate([HTJ2K])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = uid.MPEG4HP41
    with pytest.raises(MedsslError, match="DECODER_MISSING"):
        decoded(tmp_path, data)


SIGNED = np.random.default_rng(4).integers(-2048, 2048, (48, 64)).astype(np.int16)


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless,
    ],
    ids=lambda syntax: syntax.keyword,
)  # fmt: skip
@pytest.mark.parametrize("pixels", [SIGNED, (SIGNED + 2048).astype(np.uint16)])
def test_twelve_bits_signed_and_unsigned(tmp_path, make_slice, syntax, pixels):
    data = make_slice(pixels, bits=12)
    if syntax.is_encapsulated:
        try:
            data.compress(syntax, generate_instance_uid=False)
        except (RuntimeError, NotImplementedError) as error:
            pytest.skip(f"cannot be encoded here: {type(error).__name__}")
    data.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(decoded(tmp_path, data), pixels)


def test_big_endian(tmp_path, make_slice):
    data = make_slice(SIGNED, bits=12)
    data.PixelData = SIGNED.astype(">i2").tobytes()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    pydicom.dcmwrite(
        tmp_path / "one", data, implicit_vr=False, little_endian=False, enforce_file_format=True
    )
    (volume,), _ = find_volumes([tmp_path / "one"], single_slices=True)
    np.testing.assert_array_equal(volume.decode()[0], SIGNED)


@pytest.mark.data
def test_real_pixels_with_something_above_their_twelve_bits_are_refused(data_root):
    """Three storages of one mosaic; what lies above Bits Stored could be part of the values."""
    files = sorted((data_root / "dicom" / "twelve_bit").glob("*.dcm"))
    assert len(files) == 3
    for file in files:
        (volume,), _ = find_volumes([file])
        with pytest.raises(MedsslError, match="PIXEL_FORMAT_UNSUPPORTED"):
            volume.decode()
    _, (rejection,) = find_volumes(files)
    assert rejection.code == "DUPLICATE_CONFLICT"  # one UID, different values


def test_monochrome1_slices_keep_their_meaning(tmp_path, make_slice):
    """It says how a CT is shown, not what a Hounsfield unit is."""
    data = make_slice(SIGNED, modality="CT", bits=12, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decoded(tmp_path, data), SIGNED.astype(int) - 1024)
