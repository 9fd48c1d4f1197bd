"""Pictures of three planes: places worked out by hand, letters and blobs where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from medssl.drawing.montage import (
    BOX,
    GREYS,
    LETTER,
    MARGIN,
    STRIP,
    flat,
    layout,
    png,
    three_planes,
    thumbnail,
)
from medssl.drawing.planes import Window, label_colour, write

WHITE = GREYS - 1


def test_three_planes_share_one_scale() -> None:
    plan = layout((10, 20, 5), (1.0, 1.0, 2.0), margin=10)  # 10 x 20 x 10 mm
    assert plan.pixels_per_mm == BOX[0] / 20
    sizes = [(panel.plane, panel.width, panel.height) for panel in plan.panels]
    assert sizes == [("axial", 112, 224), ("coronal", 112, 112), ("sagittal", 224, 112)]
    assert [(panel.left, panel.top) for panel in plan.panels] == [(10, 10), (142, 66), (274, 66)]
    assert plan.size == (508, 224 + 20 + STRIP)


def test_a_tall_volume_keeps_its_aspect() -> None:
    axial, coronal, _ = layout((10, 10, 100), (1.0, 1.0, 10.0)).panels
    assert coronal.height == BOX[1]
    assert (coronal.width, axial.width, axial.height) == (3, 3, 3)  # 10 mm of 1000 mm


def bright(place: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    volume = np.zeros(shape, dtype=np.int16)
    volume[place] = 100
    return volume


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 3.0)])
def test_a_voxel_is_drawn_where_the_letters_say(spacing: tuple[float, float, float]) -> None:
    """Right, anterior and superior of the middle: left and up in axial and coronal."""
    shape, place = (12, 10, 8), (10, 8, 6)
    affine = np.diag([*spacing, 1.0])
    picture = np.asarray(three_planes(bright(place, shape), affine, place, Window(50, 100)))
    for panel in layout(shape, spacing).panels:
        seen = picture[panel.top : panel.top + panel.height, panel.left : panel.left + panel.width]
        rows, columns = np.nonzero(seen == seen.max())
        across, up = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[panel.plane]
        expected = 1 - (place[across] + 0.5) / shape[across], 1 - (place[up] + 0.5) / shape[up]
        middle = (columns.mean() + 0.5) / panel.width, (rows.mean() + 0.5) / panel.height
        assert middle == pytest.approx(expected, abs=0.03)


def glyph(
    letter: str, place: tuple[float, float], anchor: str, size: tuple[int, int]
) -> np.ndarray:
    picture = Image.new("L", size)
    write(ImageDraw.Draw(picture), place, letter, anchor, LETTER, WHITE, rimmed=False)
    return np.asarray(picture)


def test_the_letters_stand_outside_each_plane() -> None:
    shape = (8, 8, 8)
    empty = np.zeros(shape, dtype=np.uint8)
    drawn = three_planes(empty, np.eye(4), (4, 4, 4), Window(0.5, 1.0))
    picture = np.asarray(drawn)[: -STRIP or None]
    expected = np.zeros(drawn.size[::-1], dtype=np.uint8)
    letters = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    for panel in layout(shape, (1, 1, 1)).panels:
        x, y = panel.left + panel.width / 2, panel.top + panel.height / 2
        right, bottom = panel.left + panel.width, panel.top + panel.height
        places = [(panel.left - 3, y), (right + 3, y), (x, panel.top - 3), (x, bottom + 3)]
        for letter, where, anchor in zip(
            letters[panel.plane], places, ("rm", "lm", "mb", "mt"), strict=True
        ):
            expected = np.maximum(expected, glyph(letter, where, anchor, drawn.size))
        inside = picture[panel.top : bottom, panel.left : right]
        assert not inside.any()
    np.testing.assert_array_equal(picture, expected[: -STRIP or None])


def test_oblique_axes_get_two_letters_and_room_for_them() -> None:
    c, s = np.cos(np.deg2rad(30)), np.sin(np.deg2rad(30))
    affine = np.eye(4)
    affine[1:3, 1:3] = [[c, -s], [s, c]]
    drawn = three_planes(np.zeros((8, 8, 8)), affine, (4, 4, 4), Window(0.5, 1.0))
    assert drawn.size[0] == layout((8, 8, 8), (1, 1, 1), margin=22).size[0] > 3 * 224 + 6 * MARGIN


def test_without_a_place_there_are_no_letters_and_no_scale() -> None:
    drawn = three_planes(np.zeros((8, 8, 8)), np.eye(4), (4, 4, 4), Window(0.5, 1), placed=False)
    assert not np.asarray(drawn).any()


def test_labels_are_outlined_in_their_colours() -> None:
    label = np.zeros((8, 8, 8), dtype=np.uint16)
    label[2:6, 2:6, 2:6] = 300
    drawn = three_planes(np.zeros(label.shape), np.eye(4), (4, 4, 4), Window(0.5, 1), label)
    colours = {tuple(c) for c in np.asarray(drawn.convert("RGB")).reshape(-1, 3)}
    assert label_colour(300) in colours
    panel = layout(label.shape, (1, 1, 1)).panels[0]
    middle = np.asarray(drawn)[panel.top + panel.height // 2, panel.left + panel.width // 2]
    assert middle < GREYS  # an outline, not a filling


def test_grey_keeps_its_order_and_its_ends() -> None:
    ramp = np.tile(np.linspace(-10, 110, 8, dtype=np.float32)[:, None, None], (1, 8, 8))
    drawn = np.asarray(three_planes(ramp, np.eye(4), (4, 4, 4), Window(50, 100)))
    panel = layout(ramp.shape, (1, 1, 1)).panels[0]
    line = drawn[panel.top + 100, panel.left : panel.left + panel.width].astype(int)
    assert (np.diff(line) <= 0).all()  # x grows to the right of the patient: the viewer's left
    assert (line[0], line[-1]) == (WHITE, 0)


def test_2d_images_are_true_to_their_spacing_and_unlettered() -> None:
    image = np.zeros((10, 40), dtype=np.uint8)
    image[0, 0] = 255
    drawn = flat(image, (2.0, 1.0), Window(127, 255))  # 20 x 40 mm
    assert drawn.size == (224, 112)
    rows, columns = np.nonzero(np.asarray(drawn) == WHITE)
    assert rows.max() < 12
    assert columns.max() < 6
    assert flat(image, (2.0, 1.0), Window(127, 255), placed=True).size == (224, 112 + STRIP)


def test_colours_stay_colours() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[..., 1] = 200
    assert flat(image, (1, 1), Window(0, 1)).getpixel((9, 9)) == (0, 200, 0)


def test_equal_pictures_are_equal_bytes() -> None:
    volume = np.random.default_rng(0).integers(0, 99, (9, 8, 7))
    first, second = (
        png(three_planes(volume, np.eye(4), (1, 2, 3), Window(50, 99))) for _ in range(2)
    )
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert thumbnail(np.zeros((3, 5), dtype=np.uint8)).size == (5, 3)
