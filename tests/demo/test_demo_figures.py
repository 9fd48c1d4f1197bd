from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medssl.demo import plots
from medssl.demo.figures import View, busiest, cut, extent, mosaic


@pytest.fixture
def marked() -> np.ndarray:
    """A RAS+ volume with one bright voxel at the patient's right, front, top."""
    volume = np.zeros((4, 5, 6))
    volume[3, 4, 5] = 1
    return volume


def test_right_hangs_on_the_left(marked: np.ndarray) -> None:
    axial = cut(marked, "axial", 5)
    assert axial.shape == (5, 4)
    assert axial[0, 0] == 1  # top left: front, right
    coronal = cut(marked, "coronal", 4)
    assert coronal.shape == (6, 4)
    assert coronal[0, 0] == 1  # top left: head, right
    sagittal = cut(marked, "sagittal", 3)
    assert sagittal.shape == (6, 5)
    assert sagittal[0, 0] == 1  # top left: head, front


def test_extent_is_in_mm() -> None:
    assert extent((4, 5, 6), (2.0, 3.0, 5.0), "axial") == (8.0, 15.0)
    assert extent((4, 5, 6), (2.0, 3.0, 5.0), "coronal") == (8.0, 30.0)
    assert extent((4, 5, 6), (2.0, 3.0, 5.0), "sagittal") == (15.0, 30.0)


def test_busiest_shows_every_label_where_it_can() -> None:
    label = np.zeros((8, 8, 8), dtype=np.uint8)
    label[:, :, 1] = 1
    label[2:5, 2:5, 4] = 1
    label[5:7, 5:7, 4] = 2
    assert busiest(label, "axial", [1, 2]) == 4
    assert busiest(label, "axial", [1]) == 1


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_mosaic_shows_labels_in_colour() -> None:
    image = np.zeros((20, 16, 10), dtype=np.int16)
    label = np.zeros(image.shape, dtype=np.uint8)
    label[5:15, 4:12] = 1
    plain = View(image, (2.0, 2.0, 3.0), "axial", 5, -1.0, 1.0, "plain")
    over = View(image, (2.0, 2.0, 3.0), "axial", 5, -1.0, 1.0, "labelled", label, label)
    pixels = _pixels(mosaic([[plain, over], [plain]], width=4.0, mark="W 2", names={1: "liver"}))
    left, right = np.array_split(pixels[40:200], 2, axis=1)
    coloured = lambda part: int((np.ptp(part, axis=2) > 60).sum())  # noqa: E731
    assert coloured(left) == 0
    assert coloured(right) > 500


def test_the_same_mosaic_is_the_same_bytes() -> None:
    view = View(np.arange(60.0).reshape(3, 4, 5), (1.0, 1.0, 1.0), "coronal", 1, 0.0, 60.0)
    assert mosaic([[view]], width=2.0) == mosaic([[view]], width=2.0)


def test_plots_are_pictures() -> None:
    for png in (
        plots.pretraining_curve([(i, 1 / (i + 1)) for i in range(30)], "loss"),
        plots.finetuning_curves({"a": [(1, 2.0), (2, 1.0)], "b": []}, {"a": [], "b": []}),
        plots.paired_dots(["liver", "spleen"], [[0.1, 0.5], [0.2]], [[0.2, 0.6], [0.1]]),
        plots.stage_bars(["one", "two"], [3.0, 1.0]),
    ):
        pixels = _pixels(png)
        assert pixels.shape[0] > 100
        assert pixels.std() > 1
