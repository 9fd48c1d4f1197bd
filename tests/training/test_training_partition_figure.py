from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from medssl.store import Store
from medssl.training import partition_figure as figures

COUNT = 4


def drawn(array, spacing, axis):
    """Panels of one subject: the slice along the axis, then the partitions."""
    figure = figures.partition_figure([(array, spacing)], axis, COUNT)
    return figure.axes


def bands(panel):
    return [p for p in panel.patches if isinstance(p, Rectangle)]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_frame_and_its_cross_section_show_the_same_partition(axis):
    """Every voxel holds the number of its partition along the axis."""
    shape, spacing = (8, 12, 16), (1.0, 2.0, 0.5)
    numbers = np.arange(shape[axis]) * COUNT // shape[axis]
    array = np.broadcast_to(numbers.reshape(-1, *[1] * (2 - axis)), shape).astype(np.float32)
    first, *parts = drawn(array, spacing, axis)
    for k, panel in enumerate(parts):
        assert np.unique(panel.images[0].get_array()).tolist() == [k]
    picture, (left, right, low, high) = (
        np.asarray(first.images[0].get_array()),
        first.images[0].get_extent(),
    )
    rows, columns = picture.shape
    for k, frame in enumerate(bands(first)):
        x = frame.get_x() + frame.get_width() / 2
        y = frame.get_y() + frame.get_height() / 2
        column = int((x - left) / (right - left) * columns)
        row = int((high - y) / (high - low) * rows)
        assert picture[row, column] == k
    sides = [f.get_height() if axis == 2 else f.get_width() for f in bands(first)]
    assert sides == pytest.approx([shape[axis] * spacing[axis] / COUNT] * COUNT)


@pytest.mark.parametrize("axis", [0, 1])
def test_pictures_are_cut_into_strips(axis):
    array = np.broadcast_to(np.arange(8.0).reshape((-1, 1) if axis == 0 else (1, -1)), (8, 8))
    first, *parts = drawn(array, (1.0, 1.0), axis)
    found = [np.unique(p.images[0].get_array()).tolist() for p in parts]
    assert found == [[0, 1], [2, 3], [4, 5], [6, 7]]
    centre = bands(first)[0].get_xy()
    assert centre == ((-4, 2) if axis == 0 else (-4, -4))  # the first rows are above


def test_letters_are_as_radiologists_hang_pictures():
    first, part, *_ = drawn(np.zeros((8, 8, 8)), (1.0, 1.0, 1.0), 1)
    letters = [
        [t.get_text() for t in panel.texts if t.get_text().isalpha()] for panel in (first, part)
    ]
    assert letters == [["A", "S"], ["R", "S"]]


def test_one_volume_of_each_of_four_subjects_is_drawn(blob_store, tmp_path, monkeypatch):
    store, seen = Store.open(blob_store), []
    whole = figures.partition_figure
    monkeypatch.setattr(
        figures, "partition_figure", lambda given, *rest: seen.extend(given) or whole(given, *rest)
    )
    ids = list(store)
    figures.draw_partitions(store, [ids[0], *ids], (0, COUNT), tmp_path / "previews/made.png")
    assert (tmp_path / "previews/made.png").is_file()
    subjects = list(dict.fromkeys(store[v].subject_id for v in ids))
    assert len(seen) == min(4, len(subjects))
