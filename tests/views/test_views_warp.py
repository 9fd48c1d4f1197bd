from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from medssl.views import warp


def control(dims: int, cells: int = 3, count: int = 2) -> torch.Tensor:
    shape = (count, dims, *(cells + warp.MARGIN,) * dims)
    return torch.rand(shape, generator=torch.Generator().manual_seed(dims)) * 2 - 1


@pytest.mark.parametrize("size", [(9, 12), (8, 5, 11)])
def test_it_is_scipys_cubic_spline(size: tuple[int, ...]):
    points = control(len(size))
    got = warp.dense(points, size)
    expected = points.double().numpy()
    for axis, length in enumerate(size):
        nodes = expected.shape[axis + 2]
        knots = np.arange(-3, nodes + 1)  # whole numbers: the cells run from 0 to nodes - 3
        basis = BSpline(knots, np.eye(nodes), 3)((np.arange(length) + 0.5) / length * (nodes - 3))
        expected = np.moveaxis(np.tensordot(basis, expected, (1, axis + 2)), 0, axis + 2)
    torch.testing.assert_close(got.double(), torch.from_numpy(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(9, 12), (8, 5, 11)])
def test_points_and_grid_agree(size: tuple[int, ...]):
    points = control(len(size))
    voxels = torch.tensor(list(itertools.product(*(range(n) for n in size)))).T.float()
    got = warp.at(points, voxels.expand(2, -1, -1), size)
    torch.testing.assert_close(got, warp.dense(points, size).flatten(2), rtol=0, atol=1e-5)
    beyond = warp.at(points, torch.full((2, len(size), 1), -7.0), size)
    edge = warp.at(points, torch.full((2, len(size), 1), -0.5), size)
    assert torch.equal(beyond, edge)


def test_a_constant_moves_everything_alike():
    moved = warp.dense(torch.full((1, 3, 5, 5, 5), 2.5), (7, 6, 8))
    torch.testing.assert_close(moved, torch.full((1, 3, 7, 6, 8), 2.5))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_largest_warp_does_not_fold(dims: int):
    # Every control point as far out as it may be, in signs drawn at random: 0.4 cells of 8 voxels.
    cells, length = 4, 32
    far = warp.LARGEST * length / cells
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (20, dims, *(cells + 3,) * dims), generator=generator) * 2 - 1
    moved = warp.dense(signs * far, (length,) * dims)
    slopes = torch.stack(torch.gradient(moved, dim=list(range(2, dims + 2))), dim=2)
    jacobian = slopes.flatten(3).movedim(3, 1) + torch.eye(dims)
    assert float(torch.linalg.det(jacobian).min()) > 0
    assert float(moved.abs().max()) > 0.5 * far
