"""Planes, letters, windows and overlays, against answers worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from review_slices import (
    CT_WINDOWS,
    PLANES,
    Style,
    Window,
    blend,
    border_letters,
    direction_letters,
    label_colour,
    pixel_of,
    placement,
    render,
    spacing_of,
    take_plane,
    window_presets,
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


def test_ct_presets_come_after_the_case_window() -> None:
    presets = window_presets("CT", np.zeros((2, 2, 2)), (50, 350))
    assert list(presets) == ["As predicted", *CT_WINDOWS]
    assert presets["As predicted"] == Window(50, 350)
    assert presets["Lung"] == Window(-600, 1500)
    assert list(window_presets("CT", np.zeros((2, 2, 2)), (50, 0))) == list(CT_WINDOWS)


def test_mr_presets_are_percentiles_without_the_background() -> None:
    image = np.concatenate([np.zeros(899), np.arange(1, 102)]).reshape(10, 10, 10)  # 1 to 101
    presets = window_presets("MR", image)
    assert presets == {"Auto": Window(51, 98), "Narrow": Window(51, 80), "Wide": Window(51, 100)}


def test_an_empty_or_constant_image_still_has_a_window() -> None:
    assert window_presets("MR", np.zeros((2, 2, 2)))["Auto"].width > 0
    assert window_presets("MR", np.full((2, 2, 2), 7.0))["Wide"] == Window(7, 1)


def test_blend_mixes_by_opacity_and_hides_other_labels() -> None:
    grey = np.full((1, 3), 100, dtype=np.uint8)
    style = Style(Window(0, 1), opacity=0.5, colours={1: (200, 0, 50)})
    blended = blend(grey, np.array([[0, 1, 2]]), style)
    np.testing.assert_array_equal(blended[0], [[100, 100, 100], [150, 50, 75], [100, 100, 100]])


def test_outline_paints_the_rim_of_a_label_only() -> None:
    labels = np.zeros((7, 7), dtype=np.uint8)
    labels[1:6, 1:6] = 1
    style = Style(Window(0, 1), opacity=0.1, outline=True, colours={1: (255, 0, 0)})
    red = blend(np.zeros((7, 7), dtype=np.uint8), labels, style)[..., 0]
    expected = np.zeros((7, 7), dtype=np.uint8)
    expected[1:6, 1:6] = 255
    expected[2:5, 2:5] = 0
    np.testing.assert_array_equal(red, expected)
    thick = blend(np.zeros((7, 7), dtype=np.uint8), labels, style, thickness=2)[..., 0]
    assert thick[3, 3] == 0
    assert (thick > 0).sum() == 24


def test_label_colours_differ() -> None:
    colours = [label_colour(value) for value in range(1, 41)]
    assert len(set(colours)) == 40
    assert all(0 <= part <= 255 for colour in colours for part in colour)


@pytest.mark.parametrize("plane", PLANES)
def test_render_colours_the_voxel_at_its_place(plane: str) -> None:
    shape, size = (6, 5, 4), 240
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    position = (4, 1, 1)
    segmentation = np.zeros(shape, dtype=np.uint8)
    segmentation[position] = 3
    style = Style(Window(0, 2), opacity=1.0, colours={3: (10, 200, 30)})
    picture = np.asarray(
        render(np.zeros(shape), segmentation, affine, plane, position, style, size)
    )
    left, top, width, height = placement(shape, (1, 2, 3), plane, size)
    row, column = pixel_of(shape, plane, position)
    rows, columns = take_plane(segmentation, plane, position).shape
    y, x = top + int((row + 0.5) * height / rows), left + int((column + 0.5) * width / columns)
    assert tuple(picture[y, x]) == (10, 200, 30)
    painted = np.argwhere((picture == (10, 200, 30)).all(axis=-1))
    assert np.ptp(painted, axis=0) + 1 == pytest.approx([height / rows, width / columns], abs=1.01)


def test_crosshair_meets_at_the_voxel() -> None:
    shape, position = (4, 4, 4), (3, 0, 0)  # lower left of the axial image
    style = Style(Window(10, 1), crosshair=True)
    image, empty = np.zeros(shape), np.zeros(shape, dtype=np.uint8)
    plain = np.asarray(render(image, empty, RAS, "axial", position, Style(Window(10, 1)), 400))
    crossed = np.asarray(render(image, empty, RAS, "axial", position, style, 400))
    rows, columns = np.nonzero((plain != crossed).any(axis=-1))
    assert abs(np.bincount(rows).argmax() - 350) <= 1
    assert abs(np.bincount(columns).argmax() - 50) <= 1
