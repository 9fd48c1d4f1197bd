from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from medssl.losses import HOG
from medssl.losses.hog import orientations


def slow(image: np.ndarray, cell: int) -> np.ndarray:
    """One channel, voxel by voxel in float64: (*size) -> (bins, *size / cell)."""
    dims = image.ndim
    gradients = np.gradient(image)
    if dims == 2:
        bins = 9
    else:
        golden = (1 + math.sqrt(5)) / 2
        corners = list(itertools.product((-1, 1), repeat=3))
        for a, b in itertools.product((-1 / golden, 1 / golden), (-golden, golden)):
            corners += [(0, a, b), (a, b, 0), (b, 0, a)]
        assert len(corners) == 20  # of a dodecahedron: the middles of an icosahedron's faces
        known = orientations(3, torch.device("cpu")).double().numpy()
        bins = 10
    found = np.zeros((bins, *(n // cell for n in image.shape)))
    for place in np.ndindex(*image.shape):
        vector = np.array([g[place] for g in gradients])
        if dims == 2:
            angle = math.degrees(math.atan2(vector[1], vector[0])) % 180
            number = int(angle // 20) % 9
        else:
            nearest = max(corners, key=lambda corner: float(np.dot(corner, vector)))
            number = int(np.abs(known @ np.array(nearest)).argmax())
        found[(number, *(n // cell for n in place))] += np.linalg.norm(vector) / cell**dims
    return found / np.sqrt((found**2).sum(0) + 1e-4)


@pytest.mark.parametrize(("size", "cell"), [((8, 12), 4), ((8, 4, 6), 2)])
def test_agrees_with_a_loop(size, cell):
    image = torch.randn(2, 2, *size, dtype=torch.float64)
    hog = HOG(cell)
    got = hog(image)
    bins = got.shape[1] // 2
    assert got.shape == (2, hog.channels(2, len(size)), *(n // cell for n in size))
    for b, c in itertools.product(range(2), range(2)):
        expected = slow(image[b, c].numpy(), cell)
        np.testing.assert_allclose(got[b, c * bins : (c + 1) * bins].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_orientations_are_spread_evenly(dims):
    axes = orientations(dims, torch.device("cpu"))
    torch.testing.assert_close(axes.norm(dim=1), torch.ones(len(axes)))
    # Every axis has its nearest others at one and the same angle, and none counts more.
    nearest = (axes @ axes.T).abs().fill_diagonal_(0).amax(1)
    torch.testing.assert_close(nearest, nearest[:1].expand_as(nearest))
    second = axes.T @ axes / len(axes)
    torch.testing.assert_close(second, torch.eye(dims) / dims, atol=1e-6, rtol=0)


def test_a_ramp_votes_for_its_direction_alone():
    rows = torch.arange(8.0)
    for k, axis in enumerate(orientations(3, torch.device("cpu"))):
        image = sum(
            a * r for a, r in zip(axis, torch.meshgrid(*[rows] * 3, indexing="ij"), strict=True)
        )
        for sign in (1, -1):
            votes = HOG(4)(sign * image[None, None])[0]
            torch.testing.assert_close(votes[k], torch.full((2, 2, 2), 1.0), atol=1e-3, rtol=0)
            assert votes.sum(0).max() < 1.001


def test_brightness_and_contrast_do_not_count_and_flat_places_give_zero():
    image = 3 * torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(HOG(8)(5 * image + 7), HOG(8)(image), atol=1e-3, rtol=0)
    assert HOG(8)(torch.full((1, 1, 16, 16), 4.0)).abs().max() == 0
    rounding = 1e-5 * torch.randn(1, 1, 16, 16)
    assert HOG(8)(rounding).max() < 1e-2


def test_it_is_shown_as_one_image_a_channel():
    image = torch.randn(2, 3, 8, 8)
    hog = HOG(4)
    assert hog.shown(hog(image)).shape == (2, 3, 2, 2)


def test_refusals():
    with pytest.raises(ValueError, match="at least one voxel"):
        HOG(0)
    with pytest.raises(ValueError, match="do not divide"):
        HOG(3)(torch.zeros(1, 1, 8, 9))
