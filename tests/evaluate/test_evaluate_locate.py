from __future__ import annotations

import numpy as np
import pytest
import torch
from known_places import KnownPlaces

from medssl.bundle import InputContract
from medssl.errors import MedsslError
from medssl.evaluate.locate import Scan, describe, locate, similarities, strongest
from medssl.store.intensity import IntensityContract, statistics

CODES = IntensityContract(scheme="range", low=0, high=10_000)


def contract(patch, spacing=None):
    return InputContract(dims=len(patch), patch_size=patch, spacing=spacing, intensity=CODES)


def scan(array, spacing=None):
    spacing = spacing or (1.0,) * (array.ndim - 1)
    return Scan(array, spacing, statistics(array))


def numbered(*shape, seed=0):
    """(1, *shape): every voxel another number from 0 to 9999."""
    count = int(np.prod(shape))
    numbers = np.random.default_rng(seed).permutation(count)
    return (numbers * (9999 / count)).round().astype(np.int16).reshape(1, *shape)


@pytest.mark.parametrize(("shape", "patch"), [((21, 18), [8, 8]), ((9, 14, 8), [4, 6, 8])])
def test_a_point_is_found_where_the_same_anatomy_is(shape, patch):
    first = numbered(*shape)
    second = np.flip(first, 1).copy()
    points = np.array([[3.0] * len(shape), [8.0] + [1.0] * (len(shape) - 1)])
    embedding = KnownPlaces(len(shape))
    found = locate(embedding, scan(first), scan(second), points, contract(patch))
    expected = points.copy()
    expected[:, 0] = shape[0] - 1 - points[:, 0]
    np.testing.assert_array_equal(found.voxels, expected)
    np.testing.assert_allclose(found.similarity, 1.0, atol=1e-5)
    np.testing.assert_array_equal(found.return_mm, 0.0)
    assert found.maps.shape == (2, *shape)
    assert embedding.seen == np.prod(patch)  # never more than a window at once


def test_there_and_back_is_measured_in_mm():
    first = numbered(12, 12)
    second = first.copy()
    second[0, 2, 7] = first[0, 9, 3]  # what is looked for has gone; this is most alike
    second[0, 9, 3] = first[0, 2, 7]
    second[first == first[0, 5, 5]] = first[0, 5, 6]
    points = np.array([[9.0, 3.0], [5.0, 5.0]])
    found = locate(KnownPlaces(2), scan(first, (2.0, 0.5)), scan(second), points, contract([8, 8]))
    np.testing.assert_array_equal(found.voxels[0], [2, 7])
    assert found.return_mm[0] == 0
    # The nearest number to that of (5, 5) lies somewhere else, in both.
    numbers = first[0].astype(int)
    near = np.abs(numbers - numbers[5, 5]).astype(float)
    near[5, 5] = np.inf
    away = np.array(np.unravel_index(near.argmin(), near.shape)) - (5, 5)
    assert found.return_mm[1] == pytest.approx(np.hypot(*(away * (2.0, 0.5))))


def test_scans_smaller_than_a_window_are_padded():
    first = numbered(5, 9)
    points = np.array([[0.0, 8.0], [4.0, 0.0]])
    found = locate(KnownPlaces(2), scan(first), scan(first.copy()), points, contract([8, 8]))
    np.testing.assert_array_equal(found.voxels, points)


def test_on_another_spacing_the_place_is_the_same():
    """Numbers that rise smoothly along one axis, sampled twice as finely in the second scan."""
    coarse = np.linspace(0, 9000, 12)[None, :, None] * np.ones((1, 12, 8))
    fine = coarse.repeat(2, 1).repeat(2, 2)
    found = locate(
        KnownPlaces(2),
        scan(coarse, (2.0, 2.0)),
        scan(fine, (1.0, 1.0)),
        np.array([[4.0, 3.0]]),
        contract([6, 4], spacing=[2.0, 2.0]),
    )
    assert found.voxels[0, 0] in (8, 9)
    assert found.similarity[0] > 0.95  # between two voxels of 2 mm


@pytest.mark.parametrize("point", [[-0.6, 3], [3, 8.6], [np.nan, 3]])
def test_a_point_outside_is_refused(point):
    image = scan(numbered(9, 9))
    with pytest.raises(MedsslError, match="POINT_OUTSIDE"):
        describe(KnownPlaces(2), image, np.array([point]), contract([8, 8]))


def test_another_kind_of_scan_is_refused():
    with pytest.raises(MedsslError, match="CONTRACT_MISMATCH"):
        describe(KnownPlaces(3), scan(numbered(9, 9)), np.zeros((1, 2)), contract([8, 8, 8]))


def test_the_map_is_the_similarity_of_every_voxel():
    image = numbered(10, 12)
    network = KnownPlaces(2)
    vectors = describe(network, scan(image), np.array([[6.0, 2.0]]), contract([8, 8]))
    found = similarities(network, scan(image), vectors, contract([8, 8]))
    angle = 0.9 * np.pi * (image[0] - 5000.0) / 5000
    expected = (np.cos(angle - angle[6, 2]) + 1) / 2
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)
    voxels, value = strongest(found)
    assert voxels.tolist() == [[6, 2]]
    assert value == pytest.approx([1], abs=1e-5)
    assert torch.is_tensor(found)
