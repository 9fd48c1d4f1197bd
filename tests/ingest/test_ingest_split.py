"""Several volumes in one series: told apart where a tag explains the repeats, refused otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.ingest.dicom import find_volumes

HEIGHTS = [0.0, 2.0, 4.0, 6.0]


@pytest.fixture
def series(tmp_path, make_slice):
    """Write slices given as (height, pixel value, tags) and find their volumes."""

    def write(slices, single_slices=False):
        files = []
        for index, (height, value, tags) in enumerate(slices):
            pixels = np.full((3, 4), value, np.uint16)
            data = make_slice(pixels, position=(0.0, 0.0, height), **tags)
            files.append(tmp_path / f"f{(index * 7) % 101:03d}")
            data.save_as(files[-1], enforce_file_format=True)
        return find_volumes(files, single_slices=single_slices)

    return write


def by_volume(count, tags):
    """Volume after volume; the pixels of volume v are 10 v, 10 v + 1, ..."""
    return [(z, 10 * v + k, tags(v, k)) for v in range(count) for k, z in enumerate(HEIGHTS)]


def values(volume):
    return volume.decode()[0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        (lambda v, k: {"EchoTime": [30, 4.92][v]}, ["echo_time=4.92", "echo_time=30"]),
        (lambda v, k: {"TemporalPositionIdentifier": 9 + v}, ["temporal_position=1/2", "2/2"]),
        (lambda v, k: {"ImageType": ["ORIGINAL", "PRIMARY", "MP"[v]]}, ["image_type=1/2", "2/2"]),
        (lambda v, k: {"AcquisitionTime": f"12000{v}"}, ["acquisition_time=1/2", "2/2"]),
        (lambda v, k: {"InstanceNumber": 4 * v + k}, ["order=1/2", "2/2"]),
        (lambda v, k: {"InstanceNumber": 2 * k + v}, ["order=1/2", "2/2"]),
    ],
)
def test_repeated_positions_are_told_apart_by_the_tag_that_explains_them(series, tags, names):
    volumes, rejections = series(by_volume(2, tags))
    assert rejections == []
    assert [v.part.endswith(name) for v, name in zip(volumes, names, strict=True)] == [True] * 2
    found = sorted(values(volume) for volume in volumes)
    assert found == [[0, 1, 2, 3], [10, 11, 12, 13]]
    if names[0] == "echo_time=4.92":  # in the order of the numbers, not of the text
        assert values(volumes[0]) == [10, 11, 12, 13]


def test_a_number_written_in_two_ways_is_one(series):
    slices = [(z, k, {"EchoTime": ["30", "30.0"][k % 2]}) for k, z in enumerate(HEIGHTS)]
    (volume,), _ = series(slices)
    assert values(volume) == [0, 1, 2, 3]


def test_two_tags_together(series):
    volumes, rejections = series(
        by_volume(4, lambda v, k: {"EchoTime": 5 + v // 2, "TemporalPositionIdentifier": v % 2})
    )
    assert rejections == []
    assert [volume.part for volume in volumes] == [
        f"echo_time={echo}, temporal_position={time}/2" for echo in (5, 6) for time in (1, 2)
    ]
    assert [values(volume)[0] for volume in volumes] == [0, 10, 20, 30]


def test_tags_that_vary_without_repeats_split_nothing(series):
    slices = [(z, k, {"AcquisitionTime": f"12000{k}", "InstanceNumber": k}) for k, z in
              enumerate(HEIGHTS)]  # fmt: skip
    (volume,), _ = series(slices)
    assert (volume.part, values(volume)) == ("", [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("slices", "code"),
    [
        # nothing tells the two apart
        (by_volume(2, lambda v, k: {}), "TIME_SERIES_UNSUPPORTED"),
        # the numbers count neither by volume nor by position
        (by_volume(2, lambda v, k: {"InstanceNumber": [0, 1, 5, 4, 2, 3, 7, 6][4 * v + k]}),
         "TIME_SERIES_UNSUPPORTED"),
        # a slice of the second echo is gone: the echoes do not have the same positions
        (by_volume(2, lambda v, k: {"EchoTime": 5 + v})[:-1], "SLICE_DUPLICATE"),
        (by_volume(2, lambda v, k: {"EchoTime": 5 + v})[:6] +
         by_volume(2, lambda v, k: {"EchoTime": 5 + v})[7:], "SLICE_DUPLICATE"),
        # the same middle slice is gone from both
        ([s for s in by_volume(2, lambda v, k: {"EchoTime": 5 + v}) if s[0] != 2.0],
         "SLICE_MISSING"),
        # every slice has a time of its own, which explains no repeat
        (by_volume(2, lambda v, k: {"AcquisitionTime": f"1200{k}{v}"}), "TIME_SERIES_UNSUPPORTED"),
        # one slice of another echo among distinct positions
        ([(z, k, {"EchoTime": 5 + (k == 2)}) for k, z in enumerate(HEIGHTS)], "SERIES_MIXED"),
        # magnitude and phase among distinct positions
        ([(z, k, {"ImageType": ["ORIGINAL", "PRIMARY", "MP"[k % 2]]}) for k, z in
          enumerate(HEIGHTS)], "SERIES_MIXED"),
        # one position over and over
        ([(0.0, k, {"InstanceNumber": k}) for k in range(4)], "TIME_SERIES_UNSUPPORTED"),
    ],
)  # fmt: skip
def test_what_is_not_explained_is_refused_whole(series, slices, code):
    volumes, (rejection,) = series(slices)
    assert volumes == []
    assert rejection.code == code
    assert len(rejection.files) == len(slices)


SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def planes(count, tilt=None):
    turned = SAGITTAL if tilt is None else (np.cos(tilt), np.sin(tilt), 0.0, -np.sin(tilt),
                                            np.cos(tilt), 0.0)  # fmt: skip
    axial = [(z, k, {}) for k, z in enumerate(HEIGHTS)]
    other = [(0.0, 20 + k, {"orientation": turned, "ImagePositionPatient": [2.0 * k, 0, 2 * k]})
             for k in range(count)]  # fmt: skip
    return axial + other


def test_clearly_different_planes_are_volumes_of_their_own(series):
    slices = planes(3)
    for k in range(3):
        slices[4 + k][2]["ImagePositionPatient"] = [2.0 * k, 0, 0]
    volumes, rejections = series(slices)
    assert rejections == []
    assert [volume.part for volume in volumes] == ["orientation=1/2", "orientation=2/2"]
    assert [len(volume.headers) for volume in volumes] == [3, 4]


def test_a_plane_for_every_slice_is_refused_at_once(series):
    turns = [np.radians(10 * k / 3) for k in range(40)]
    slices = [
        (0.0, k, {"orientation": (np.cos(a), np.sin(a), 0.0, -np.sin(a), np.cos(a), 0.0)})
        for k, a in enumerate(turns)
    ]
    volumes, (rejection,) = series([*slices, *slices])
    assert (volumes, rejection.code) == ([], "ORIENTATION_MIXED")


@pytest.mark.parametrize("slices", [planes(1), planes(3, tilt=0.02)])
def test_a_single_other_plane_or_a_small_turn_is_refused(series, slices):
    volumes, (rejection,) = series(slices)
    assert (volumes, rejection.code) == ([], "ORIENTATION_MIXED")
