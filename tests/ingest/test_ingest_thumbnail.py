"""Thumbnails of refused series: a small picture where it is safe, else none."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from medssl.ingest.thumbnail import PICTURED, SIDE, thumbnail

RAMP = np.tile(np.arange(200, dtype=np.uint16), (100, 1))


@pytest.fixture
def save(tmp_path, make_slice):
    def write(pixels=RAMP, **tags):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"
        make_slice(pixels, **tags).save_as(path, enforce_file_format=True)
        return path

    return write


def test_the_middle_file_becomes_a_small_grey_picture(save):
    found = thumbnail([save(RAMP.T), save(), save(RAMP.T)])
    assert found.dtype == np.uint8
    assert found.shape == (48, SIDE)
    assert (found[:, 0].max(), found[:, -1].min()) == (0, 255)
    assert (np.diff(found[20].astype(int)) >= 0).all()


def test_it_is_true_to_the_pixel_spacing(save):
    assert thumbnail([save(spacing=(2.0, 1.0))]).shape == (SIDE, SIDE)
    for absurd in ((0.0, 1.0), (1.0, 999.0)):
        assert thumbnail([save(spacing=absurd)]).shape == (48, SIDE)
    assert thumbnail([save(PixelSpacing=None)]).shape == (48, SIDE)


def test_monochrome1_is_turned_round(save):
    found = thumbnail([save(PhotometricInterpretation="MONOCHROME1")])
    assert found[0, 0] > found[0, -1]


def test_the_middle_frame_of_several(save):
    frames = np.stack([RAMP[:, ::-1], RAMP, RAMP[:, ::-1]])
    path = save(SOPClassUID=EnhancedMRImageStorage, NumberOfFrames=3, PixelData=frames.tobytes())
    found = thumbnail([path])
    assert found[0, 0] < found[0, -1]


def test_an_overlay_in_the_unused_bits_is_not_drawn(save):
    written = RAMP.copy()
    written[20:40, 20:180] |= 1 << 12
    plain, overlaid = (thumbnail([save(pixels, bits=12)]) for pixels in (RAMP, written))
    np.testing.assert_array_equal(plain, overlaid)


@pytest.mark.parametrize(
    "tags",
    [
        {"BurnedInAnnotation": "YES"},
        {"BurnedInAnnotation": "PERHAPS"},
        {"SOPClassUID": SecondaryCaptureImageStorage},
        {"SOPClassUID": UltrasoundImageStorage},
        {"SOPClassUID": DigitalXRayImageStorageForPresentation},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"SamplesPerPixel": 3},
        {"Rows": 60000, "Columns": 60000},
    ],
    ids=lambda tags: ",".join(tags) + str(next(iter(tags.values())))[-12:],
)
def test_no_picture_where_text_could_be_or_pixels_are_in_doubt(save, tags):
    assert thumbnail([save(**tags)]) is None


def test_a_radiograph_that_says_it_has_no_text_is_drawn(save):
    tags = {"SOPClassUID": DigitalXRayImageStorageForPresentation, "BurnedInAnnotation": "NO"}
    assert thumbnail([save(**tags)]) is not None


def test_no_picture_of_what_is_no_image(save, tmp_path):
    truncated = save()
    truncated.write_bytes(truncated.read_bytes()[:-999])
    noise, missing = tmp_path / "noise", tmp_path / "missing"
    noise.write_bytes(bytes(range(256)) * 4)
    for paths in ([], [truncated], [noise], [missing]):
        assert thumbnail(paths) is None


def test_refusals_for_identity_or_text_are_never_pictured():
    secret = {"BURNED_IN_TEXT", "SUBJECT_UNKNOWN", "SERIES_MIXED", "DERIVED", "COLOUR_UNSUPPORTED"}
    assert not secret & PICTURED
    assert {"SLICE_MISSING", "GANTRY_TILT", "LOCALIZER"} <= PICTURED
