from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medssl.errors import MedsslError
from medssl.ingest.geometry import SlicePose, check_stated_tilt, stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def poses(positions, orientation=AXIAL, spacing=(1.0, 1.0), shape=(4, 5)):
    return [SlicePose(orientation, tuple(p), spacing, shape) for p in positions]


def along_z(*heights):
    return poses([(0.0, 0.0, float(z)) for z in heights])


def code_of(*arguments, **named):
    with pytest.raises(MedsslError) as caught:
        stack(*arguments, **named)
    return caught.value.code


def test_axial_stack_has_the_affine_written_by_hand():
    placed = stack(poses([(10, 20, 30), (10, 20, 33)], spacing=(0.5, 0.25)))
    expected = [[-0.25, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(placed.affine, expected)
    assert placed.order == [0, 1]
    assert placed.spacing == pytest.approx(3)


def test_slices_are_ordered_along_the_normal_not_as_given():
    assert stack(along_z(4, 0, 2)).order == [1, 2, 0]


def test_sagittal_normal_is_row_cross_column():
    # Rows run to posterior, columns to feet: the normal is to the patient's left... (y x -z) = -x.
    placed = stack(poses([(0, 0, 0), (1, 0, 0)], orientation=(0, 1, 0, 0, 0, -1)))
    assert placed.order == [1, 0]
    np.testing.assert_allclose(placed.affine[:3, 2], [1, 0, 0])  # -x in LPS is +x in RAS


@settings(max_examples=200, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 5)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    count=st.integers(2, 12),
    shuffle=st.randoms(use_true_random=False),
)
def test_random_stacks_give_back_the_known_affine(turn, spacing, origin, count, shuffle):
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    between_columns, between_rows, between_slices = spacing
    positions = [np.array(origin) + axes[:, 2] * between_slices * k for k in range(count)]
    shuffle.shuffle(positions)
    orientation = (*axes[:, 0], *axes[:, 1])
    placed = stack(poses(positions, orientation, (between_rows, between_columns)))
    expected = np.eye(4)
    expected[:3, :3] = axes * [between_columns, between_rows, between_slices]
    expected[:3, 3] = origin
    np.testing.assert_allclose(placed.affine, np.diag([-1, -1, 1, 1]) @ expected, atol=1e-6)


def test_missing_slice():
    assert code_of(along_z(0, 1, 2, 4, 5)) == "SLICE_MISSING"
    assert code_of(along_z(0, 2, 4, 10)) == "SLICE_MISSING"
    assert code_of(along_z(0, 1, 3)) == "SLICE_MISSING"


def test_every_second_slice_missing_is_seen_by_the_declared_spacing():
    assert code_of(along_z(0, 2, 4), declared=1.0, thickness=1.0) == "SLICE_MISSING"
    # Some makers write the gap between faces: 5 mm slices with 1 mm between them lie 6 mm apart.
    assert stack(along_z(0, 6, 12), declared=1.0, thickness=5.0).spacing == pytest.approx(6)


def test_duplicate_and_repeated_positions():
    assert code_of(along_z(0, 1, 1, 2)) == "SLICE_DUPLICATE"
    assert code_of(along_z(0, 1, 0, 1)) == "TIME_SERIES_UNSUPPORTED"
    assert code_of(along_z(0, 0)) == "TIME_SERIES_UNSUPPORTED"


def test_uneven_spacing_and_slow_drift():
    assert code_of(along_z(0, 1, 2, 3.4)) == "SPACING_UNEVEN"
    drift = np.cumsum([0] + [1.009] * 50 + [0.991] * 50)
    assert code_of(along_z(*drift)) == "SPACING_UNEVEN"
    assert stack(along_z(0, 1.0005, 2, 3)).spacing == pytest.approx(1)


def test_a_gap_like_several_of_its_neighbours_is_a_missing_slice_even_if_allowed():
    allow = {"SPACING_UNEVEN"}
    for heights in ([0, 1, 2, 4, 5.03, 6], [0, 1.03, 2, 5.1], [0, 2.1, 3.1, 4.3]):
        assert code_of(along_z(*heights), allow=allow) == "SLICE_MISSING"
    assert code_of(along_z(0, 2, 4, 6.9), declared=1.0, allow=allow) == "SLICE_MISSING"


def test_uneven_spacing_is_accepted_on_request_and_keeps_the_positions():
    placed = stack(along_z(5, 7.5, 11, 12.5), allow={"SPACING_UNEVEN"})
    assert placed.positions == (0, 2.5, 6, 7.5)
    np.testing.assert_allclose(placed.affine[:3, 2], [0, 0, 1])
    assert stack(along_z(0, 2, 4), allow={"SPACING_UNEVEN"}).positions == ()


def test_tilt():
    placed = stack(poses([(0.0, 0.1 * z, float(z)) for z in range(5)]))
    assert placed.tilt == pytest.approx(np.degrees(np.arctan(0.1)))
    np.testing.assert_allclose(placed.affine[:3, 2], [0, -0.1, 1])
    assert stack(poses([(0.0, 1e-4 * z, float(z)) for z in range(5)])).tilt == 0
    uneven = poses([(0.0, 0.1 * z * z, float(z)) for z in range(5)])
    assert code_of(uneven) == "GANTRY_TILT"
    assert code_of(poses([(0.0, 1.1 * z, float(z)) for z in range(5)])) == "GANTRY_TILT"


@pytest.mark.parametrize(
    ("tilt", "stated", "right"),
    [
        (12.5, [12.5], True),
        (12.5, [-12.4], True),  # makers differ in the sign
        (12.5, [], True),  # positions decide where nothing is stated
        (0.0, [0.0], True),
        (12.5, [0.0], False),
        (0.0, [12.5], False),
        (12.5, [12.5, 14.0], False),
        (12.5, [float("nan")], False),
    ],
)
def test_the_stated_tilt_must_be_that_of_the_positions(tilt, stated, right):
    if right:
        check_stated_tilt(tilt, stated)
        return
    with pytest.raises(MedsslError, match="GANTRY_TILT"):
        check_stated_tilt(tilt, stated)


def test_mixed_and_impossible():
    mixed = poses([(0, 0, 0)]) + poses([(0, 0, 1)], orientation=(0, 1, 0, 1, 0, 0))
    assert code_of(mixed) == "ORIENTATION_MIXED"
    assert code_of(poses([(0, 0, 0), (0, 0, 1)], (1, 0, 0, 0.5, 0.9, 0))) == "ORIENTATION_INVALID"
    assert code_of(poses([(0, 0, 0)]) + poses([(0, 0, 1)], shape=(4, 6))) == "SHAPE_MIXED"
    assert code_of(poses([(0, 0, 0)]) + poses([(0, 0, 1)], spacing=(1, 2))) == "SHAPE_MIXED"
    assert code_of(poses([(0, 0, 0), (0, 0, float("nan"))])) == "DICOM_TAG_INVALID"
    assert code_of(along_z(0)) == "SPACING_UNKNOWN"


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_pixel_spacing(bad):
    assert code_of(poses([(0, 0, 0), (0, 0, 1)], spacing=(1.0, bad))) == "SPACING_INVALID"
