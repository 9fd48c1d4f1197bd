"""Pieces and filters in NumPy say what SciPy says, voxel for voxel."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from medssl.ingest.pieces import AROUND, FACES, Runs, closed, filled, white_tophat

SHAPES = [(1, 1, 1), (1, 7, 9), (12, 1, 5), (6, 10, 1), (20, 25, 30)]
IN_PLANE = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])


def masks(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Nothing, everything, noise of three densities, and smooth lumps."""
    rng = np.random.default_rng(0)
    noise = rng.random(shape)
    lumps = ndimage.gaussian_filter(noise, 2)
    cuts = [noise < level for level in (-1, 2, 0.1, 0.4, 0.7)]
    return [*cuts, lumps > np.median(lumps)]


def labelled(runs: Runs, shape: tuple[int, ...]) -> np.ndarray:
    """The labels that scipy.ndimage.label would give."""
    labels = np.zeros(shape, dtype=int)
    for number in range(runs.count):
        labels += (number + 1) * runs.mask(shape, np.arange(runs.count) == number)
    return labels


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_of_a_volume_are_those_of_scipy(shape: tuple[int, ...]) -> None:
    for mask in masks(shape):
        runs = Runs.of(mask, FACES)
        expected, count = ndimage.label(mask)
        assert runs.count == count
        assert np.array_equal(runs.sizes(), np.bincount(expected.ravel())[1:])
        chosen = np.arange(count) % 3 == 0
        wanted = np.append(False, chosen)[expected]
        assert np.array_equal(runs.mask(shape, chosen), wanted)


@given(arrays(bool, st.tuples(st.just(1), st.integers(1, 12), st.integers(1, 12))))
def test_pieces_of_a_picture_are_those_of_scipy(mask: np.ndarray) -> None:
    runs = Runs.of(mask, AROUND)
    expected, count = ndimage.label(mask[0], structure=np.ones((3, 3)))
    assert runs.count == count
    assert np.array_equal(labelled(runs, mask.shape)[0], expected)


def test_boxes_and_highest_values_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 40, 50)).astype(np.float32)
    mask = ndimage.gaussian_filter(values, 1) > 0.2
    mask[:, :, -1] = True  # a run that ends where the line does
    runs = Runs.of(mask, FACES)
    expected, count = ndimage.label(mask)
    found = [tuple(row) for row in np.column_stack(runs.boxes())]
    places = ndimage.find_objects(expected)
    assert found == [(r.start, r.stop - 1, c.start, c.stop - 1) for _, r, c in places]
    peaks = ndimage.maximum(values, expected, np.arange(1, count + 1))
    assert np.array_equal(runs.highest(values), peaks)


@pytest.mark.parametrize("shape", SHAPES)
def test_closing_and_filling_are_those_of_scipy(shape: tuple[int, ...]) -> None:
    for mask in masks(shape):
        wide = ndimage.binary_closing(np.pad(mask, 2), iterations=2)[2:-2, 2:-2, 2:-2]
        assert np.array_equal(closed(mask, 2), wide)
        assert np.array_equal(filled(mask), ndimage.binary_fill_holes(mask, structure=IN_PLANE))


@pytest.mark.parametrize("shape", [(10, 10), (33, 17), (1, 12), (3, 2)])
@pytest.mark.parametrize("size", [1, 3, 9])
def test_white_tophat_is_that_of_scipy(shape: tuple[int, int], size: int) -> None:
    image = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    assert np.array_equal(white_tophat(image, size), ndimage.white_tophat(image, size))


def test_an_ingest_without_heads_does_not_import_scipy() -> None:
    """SciPy takes as long to import as a thousand files to read."""
    text = "import medssl.ingest.steps, medssl.ingest.burned_in, medssl.ingest.deface, sys\n"
    text += "sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
