"""Planes, letters and windows, against answers worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medssl.drawing.planes import (
    PLANES,
    Window,
    border_letters,
    direction_letters,
    label_colour,
    pixel_of,
    placement,
    round_length,
    spacing_of,
    take_plane,
)

RAS = np.diag([1.0, 1.0, 1.0, 1.0])


def turned(degrees: float, spacing: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """An affine turned about the x axis: its y axis leans from anterior to superior."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag(spacing)
    return affine


def test_axial_shows_right_on_the_left_and_anterior_on_top() -> None:
    volume = np.arange(24).reshape(2, 3, 4)  # value = 12 x + 4 y + z
    expected = [[12 + 8 + 1, 8 + 1], [12 + 4 + 1, 4 + 1], [12 + 1, 1]]
    np.testing.assert_array_equal(take_plane(volume, "axial", (0, 0, 1)), expected)


def test_coronal_shows_right_on_the_left_and_superior_on_top() -> None:
    volume = np.arange(24).reshape(2, 3, 4)
    expected = [[12 + 4 + z, 4 + z] for z in (3, 2, 1, 0)]
    np.testing.assert_array_equal(take_plane(volume, "coronal", (0, 1, 0)), expected)


def test_sagittal_shows_anterior_on_the_left_and_superior_on_top() -> None:
    volume = np.arange(24).reshape(2, 3, 4)
    expected = [[12 + 8 + z, 12 + 4 + z, 12 + z] for z in (3, 2, 1, 0)]
    np.testing.assert_array_equal(take_plane(volume, "sagittal", (1, 0, 0)), expected)


@pytest.mark.parametrize("plane", PLANES)
def test_every_voxel_is_where_pixel_of_says(plane: str) -> None:
    volume = np.arange(60).reshape(3, 4, 5)
    for position in itertools.product(range(3), range(4), range(5)):
        assert (
            take_plane(volume, plane, position)[pixel_of(volume.shape, plane, position)]
            == (volume[position])
        )


@pytest.mark.parametrize(
    ("plane", "letters"), [("axial", "RLAP"), ("coronal", "RLSI"), ("sagittal", "APSI")]
)
def test_letters_of_an_upright_grid(plane: str, letters: str) -> None:
    assert "".join(border_letters(RAS, plane).values()) == letters


def test_letters_of_oblique_grids() -> None:
    slight, strong = turned(10), turned(30)
    assert border_letters(slight, "axial")["top"] == "A"
    assert border_letters(strong, "axial") == {
        "left": "R",
        "right": "L",
        "top": "AS",
        "bottom": "PI",
    }
    assert border_letters(strong, "sagittal")["top"] == "SP"


def test_direction_letters_do_not_depend_on_length() -> None:
    assert direction_letters(np.array([-0.1, 0, 0])) == "L"
    assert direction_letters(np.array([0, -30.0, 20.0])) == "PS"


def test_spacing_of_a_turned_grid() -> None:
    assert spacing_of(turned(30, (1, 2, 3))) == pytest.approx((1, 2, 3))


def test_placement_is_true_to_millimetres() -> None:
    shape, spacing = (4, 2, 2), (1.0, 2.0, 4.0)
    assert placement(shape, spacing, "axial", 64) == (0, 0, 64, 64)  # 4 mm by 4 mm
    assert placement(shape, spacing, "coronal", 64) == (16, 0, 32, 64)  # 4 mm by 8 mm
    assert placement((10, 2, 2), (1.0, 1.0, 1.0), "axial", 100) == (0, 40, 100, 20)


@pytest.mark.parametrize(
    ("value", "grey"), [(-160, 0), (-161, 0), (40, 128), (140, 191), (240, 255), (999, 255)]
)
def test_window_maps_exactly(value: int, grey: int) -> None:
    # 140 HU: (100 / 400 + 1/2) * 255 = 191.25
    assert Window(40, 400).apply(np.array([value], dtype=np.int16))[0] == grey


def test_window_takes_nan_as_black() -> None:
    assert Window(0, 1).apply(np.array([np.nan]))[0] == 0


def test_label_colours_differ() -> None:
    colours = [label_colour(value) for value in range(1, 41)]
    assert len(set(colours)) == 40
    assert all(0 <= part <= 255 for colour in colours for part in colour)


def test_a_scale_bar_has_a_round_length() -> None:
    assert [round_length(mm) for mm in (0.5, 1.0, 9.9, 10.0, 999.0)] == [0, 1, 5, 10, 200]
