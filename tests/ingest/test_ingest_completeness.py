"""Slices missing at the ends, and defects that the user accepts."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from medssl.errors import MedsslError
from medssl.ingest.completeness import is_part_of
from medssl.ingest.dicom import find_volumes
from medssl.ingest.run import ingest
from medssl.store import Store

STATED, SIBLING = "SLICES_FEWER_THAN_STATED", "SLICES_FEWER_THAN_SIBLING"


def stating(count):
    def change(index, data):
        data.ImagesInAcquisition = count

    return change


def test_fewer_slices_than_stated_are_refused_unless_allowed(tmp_path, write_stack):
    files = write_stack(tmp_path, 4, change=stating(7))
    volumes, (rejection,) = find_volumes(files)
    assert (volumes, rejection.code, len(rejection.files)) == ([], STATED, 4)
    (volume,), rejections = find_volumes(files, allow={STATED})
    assert (volume.defects, rejections) == ([STATED], [])


@pytest.mark.parametrize("count", [4, 3, 0])
def test_a_count_that_is_reached_refuses_nothing(tmp_path, write_stack, count):
    (volume,), _ = find_volumes(write_stack(tmp_path, 4, change=stating(count)))
    assert volume.defects == []


def test_a_count_of_the_whole_series_refuses_none_of_its_volumes(tmp_path, write_stack):
    def change(index, data):
        data.EchoTime, data.ImagesInAcquisition = 5 + index // 3, 6

    volumes, _ = find_volumes(write_stack(tmp_path, heights=[0, 2, 4, 0, 2, 4], change=change))
    assert [len(volume.headers) for volume in volumes] == [3, 3]


@pytest.mark.parametrize(
    ("group", "element", "creator", "refused"),
    [
        (0x0021, 0x4F, "GEMS_RELA_01", True),
        (0x2001, 0x18, "Philips Imaging DD 001", True),
        (0x0021, 0x4F, "SOMEONE ELSE", False),
    ],
)
def test_private_counts_are_read_in_their_makers_block_alone(
    tmp_path, write_stack, group, element, creator, refused
):
    def change(index, data):
        block = data.private_block(group, creator, create=True)
        block.add_new(element, "SH" if creator == "SOMEONE ELSE" else "SL", "text" if creator ==
                      "SOMEONE ELSE" else 9)  # fmt: skip

    volumes, rejections = find_volumes(write_stack(tmp_path, 4, change=change))
    assert [rejection.code for rejection in rejections] == [STATED] * refused
    assert len(volumes) == 1 - refused


HEIGHTS = [2.0 * k for k in range(6)]


@pytest.mark.parametrize("kept", [HEIGHTS[:3], HEIGHTS[3:], HEIGHTS[1:5]])
def test_a_piece_of_a_sibling_series_is_refused_unless_allowed(tmp_path, write_stack, kept):
    whole = write_stack(tmp_path / "a", heights=HEIGHTS, series="1.1")
    piece = write_stack(tmp_path / "b", heights=kept, series="1.2")
    (volume,), (rejection,) = find_volumes([*whole, *piece])
    assert (volume.files, volume.defects) == (whole, [])
    assert (rejection.code, rejection.files) == (SIBLING, piece)
    volumes, rejections = find_volumes([*whole, *piece], allow={SIBLING})
    assert rejections == []
    assert [v.defects for v in volumes] == [[], [SIBLING]]


@pytest.mark.parametrize(
    "other",
    [
        {"FrameOfReferenceUID": "1.2.10"},
        {"FrameOfReferenceUID": ""},
        {"StudyInstanceUID": "1.9"},
        {"spacing": (1.1, 1.0)},
        {"orientation": (0.0, 1.0, 0.0, -1.0, 0.0, 0.0)},
        {"heights": [0.0, 4.0, 8.0]},
        {"heights": [1.0, 3.0, 5.0]},
        {"heights": [6.0, 8.0, 10.0, 12.0]},
    ],
)
def test_series_on_another_grid_are_no_pieces(tmp_path, write_stack, other):
    whole = write_stack(tmp_path / "a", heights=HEIGHTS, series="1.1")
    piece = write_stack(tmp_path / "b", series="1.2", **{"heights": [2.0, 4.0, 6.0], **other})
    volumes, rejections = find_volumes([*whole, *piece])
    assert (len(volumes), rejections) == (2, [])


def test_is_part_of_counts_voxels_not_millimetres():
    grid = np.diag([-0.5, -0.5, 3.0, 1.0])
    inside = grid @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    assert is_part_of(inside, 8, grid, 10)
    assert not is_part_of(inside, 9, grid, 10)
    assert not is_part_of(inside, 8, grid, 8)
    drifting = inside.copy()
    drifting[2, 2] *= 1.02  # the eighth slice is 0.14 slices off
    assert not is_part_of(drifting, 8, grid, 10)


def test_what_was_allowed_stays_in_the_manifest(tmp_path, write_stack):
    write_stack(tmp_path / "in" / "a", 4, series="1.1", change=stating(7))
    write_stack(
        tmp_path / "in" / "b", heights=[0.0, 3.0, 6.0], series="1.2", FrameOfReferenceUID="1.8",
        ImageType=["DERIVED", "SECONDARY", "MIP"],
    )  # fmt: skip
    ingest(tmp_path / "in", tmp_path / "store", allow=[STATED, "DERIVED"])
    defects = Store.open(tmp_path / "store").manifest["defects"]
    assert sorted(list(found) for found in defects) == [["DERIVED"], [STATED]]


@pytest.mark.parametrize("code", ["SLICE_MISSING", "nonsense"])
def test_only_defects_of_correct_volumes_can_be_allowed(tmp_path, code):
    with pytest.raises(MedsslError, match="CODE_NOT_ALLOWABLE"):
        ingest(tmp_path, tmp_path.with_name("store"), allow=[code])


def test_a_decompression_bomb_is_refused_before_room_is_made(tmp_path, make_slice):
    files = []
    for index in range(2):
        data = make_slice(np.zeros((3, 4), np.uint16), position=(0, 0, 2.0 * index))
        data.compress(RLELossless, generate_instance_uid=False)
        data.Rows = data.Columns = 60_000
        files.append(tmp_path / f"f{index}")
        pydicom.dcmwrite(files[-1], data, enforce_file_format=True)
    (volume,), _ = find_volumes(files)
    with pytest.raises(MedsslError, match="PIXELS_TOO_LARGE"):
        volume.decode()
