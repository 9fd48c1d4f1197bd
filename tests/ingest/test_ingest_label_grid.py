"""Where planes of label objects lie on the slices of a volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.errors import MedsslError
from medssl.ingest.geometry import LPS_TO_RAS, SlicePose
from medssl.ingest.headers import SliceHeader
from medssl.ingest.label_grid import SliceGrid, grid_shape, place
from medssl.ingest.volume import DicomVolume
from medssl.store.original import OriginalGrid

POSE = SlicePose((1, 0, 0, 0, 1, 0), (5.0, 6.0, 1.0), (3.0, 2.0), (4, 7))


def volume_of(count=1, **more):
    named = dict.fromkeys(("sop_uid", "series_uid", "study_uid", "patient_id", "frame_uid"), "")
    header = SliceHeader(
        path=Path("f"),
        **named,
        modality="CT",
        pose=POSE,
        slope=1,
        intercept=0,
        bits_stored=16,
        signed=False,
        thickness=2.0,
        declared_spacing=None,
        instance=1,
        marks=(),
        picture=(4, 7),
    )
    return DicomVolume([header] * count, None, **more)


def test_a_single_slice_is_as_thick_as_it_states():
    grid = SliceGrid.of(volume_of())
    assert grid.shape == grid_shape(volume_of()) == (7, 4, 1)
    points = np.array([[5 + 2 * 3, 6 + 3 * 2, 1.0], [5, 6, 1.0 + 2.0]])
    np.testing.assert_allclose(grid.voxels(points), [[3, 2, 0], [0, 0, 1]], atol=1e-12)


SHEARED = np.array([[2, 0, 0.5, 5], [0, 3, -0.25, 6], [0, 0, 1, 1], [0, 0, 0, 1.0]])
UNEVEN = (0.0, 2.0, 5.0, 6.5)


def uneven():
    """Slices at heights of 1, 3, 6 and 7.5 mm, each moved sideways with its height."""
    affine = tuple((LPS_TO_RAS @ SHEARED).ravel())
    return SliceGrid.of(volume_of(4, original=OriginalGrid(affine, (7, 4, 4), UNEVEN)))


def test_points_between_unevenly_spaced_slices_are_counted_from_slice_to_slice():
    places = np.array([0.0, 1.0, 2.0, 3.5, 6.5, 8.0, -1.0])
    points = np.column_stack([np.full(7, 3.0), np.full(7, 2.0), places, np.ones(7)])
    found = uneven().voxels((points @ SHEARED.T)[:, :3])
    np.testing.assert_allclose(found[:, 2], [0, 0.5, 1, 1.5, 3, 4, -0.5], atol=1e-12)
    np.testing.assert_allclose(found[:, :2], np.broadcast_to([3, 2], (7, 2)), atol=1e-12)


@pytest.mark.parametrize("slice_", range(4))
def test_a_plane_on_an_unevenly_spaced_slice_is_that_slice(slice_):
    origin = tuple((SHEARED @ [0, 0, UNEVEN[slice_], 1])[:3])
    pose = SlicePose(POSE.orientation, origin, POSE.pixel_spacing, POSE.shape)
    assert place(uneven().index(pose), pose.shape, (7, 4, 4)).where == (None, None, slice_)


def test_a_plane_through_unevenly_spaced_slices_is_refused():
    """Its pixels are 2 mm apart, as the first two slices are and the others are not."""
    pose = SlicePose((0, 1, 0, 0, 0, 1), (5.0, 6.0, 1.0), (2.0, 3.0), (4, 4))
    with pytest.raises(MedsslError, match="cuts through"):
        uneven().index(pose)


@pytest.mark.parametrize("across", [0, 1, 2])
@pytest.mark.parametrize("flipped", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("swapped", [False, True])
def test_any_way_to_count_the_voxels_of_a_plane(across, flipped, swapped):
    """Against each pixel's voxel by its own product with the matrix."""
    grid = (5, 6, 7)
    axes = [axis for axis in range(3) if axis != across]
    axes = axes[::-1] if swapped else axes
    index = np.zeros((4, 4))
    index[3, 3], index[across, 3] = 1, 3
    for column, (axis, back) in enumerate(zip(axes, flipped, strict=True)):
        index[axis, column] = -1 if back else 1
        index[axis, 3] = grid[axis] - 1 if back else 0
    size = (grid[axes[1]], grid[axes[0]])
    mask = np.random.default_rng(0).random(size) < 0.4
    want = np.zeros(grid, dtype=bool)
    for row, column in np.argwhere(mask):
        want[tuple((index @ [column, row, 0, 1])[:3].astype(int))] = True
    layer = place(index, size, grid).layer(mask)
    got = np.zeros(grid, dtype=bool)
    got[layer.window] = layer.mask
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.__setitem__((0, 3), 0.2),  # between columns
        lambda m: m.__setitem__((2, 3), 2.3),  # between slices
        lambda m: m.__setitem__((2, 3), 7),
        lambda m: m.__setitem__((2, 3), -1),
        lambda m: m.__setitem__((0, 3), 1),  # one further: another part of space
        lambda m: m.__setitem__((0, 0), 1.02),  # small, and a tenth of a voxel at the far end
        lambda m: m.__setitem__((1, 1), 0.5),
        lambda m: m.__setitem__((0, 0), np.nan),
        lambda m: m.__setitem__((slice(None), 1), m[:, 0]),
    ],
)
def test_a_plane_between_the_voxels_or_elsewhere_is_refused(spoil):
    index = np.eye(4)
    index[2, 3] = 3
    assert place(index, (6, 5), (5, 6, 7)).where == (None, None, 3)
    spoil(index)
    with pytest.raises(MedsslError, match="LABEL_GRID_MISMATCH"):
        place(index, (6, 5), (5, 6, 7))


def test_slices_may_be_a_little_off_the_even_grid():
    index = np.eye(4)
    index[2, 3] = 3.05  # what geometry.stack accepts of a series
    assert place(index, (6, 5), (5, 6, 7)).where == (None, None, 3)
