"""Presets, overlays and the crosshair, against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from review_slices import CT_WINDOWS, Style, blend, render, window_presets

from medssl.drawing.planes import PLANES, Window, pixel_of, placement, take_plane

RAS = np.diag([1.0, 1.0, 1.0, 1.0])


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
