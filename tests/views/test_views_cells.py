from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.views import (
    Draw,
    SpatialSettings,
    View,
    ViewSettings,
    cells,
    distances,
    far_pairs,
    make_view,
    near_pairs,
    sample_key,
    view_draw,
)

CROP = {2: (24, 32), 3: (24, 16, 12)}
SIZE = {2: (16, 24), 3: (16, 12, 8)}
GRID = {2: (4, 6), 3: (4, 3, 2)}
SPACING = {2: (0.7, 2.5), 3: (0.8, 1.5, 4.0)}
SETTINGS = {
    "rigid": SpatialSettings(rotation=25, crop_scale=(0.3, 0.9), aspect=1.4, flip_axes=(0, 1)),
    "sheared": SpatialSettings(rotation=25, crop_scale=(0.5, 0.9), shear=12),
    "warped": SpatialSettings(rotation=15, crop_scale=(0.5, 0.9), elastic=3.0, elastic_cells=3),
}


def made(dims: int, how: str, number: int) -> View:
    draw = view_draw(Draw(torch.tensor([sample_key(3, 0, n) for n in range(3)])), number)
    settings, crops = ViewSettings(SETTINGS[how]), torch.zeros(3, 1, *CROP[dims])
    return make_view(crops, draw, settings, SIZE[dims], SPACING[dims])


def place(view: View, sample: int, cell: int, grid: tuple[int, ...], spacing: tuple[float, ...]):
    """The centre of a cell in mm by the view's map, one by one; and whether it is in the crop."""
    number, centre = cell, []
    for count, size in zip(reversed(grid), reversed(view.size), strict=True):
        centre.insert(0, (number % count + 0.5) * size / count - 0.5)
        number //= count
    point = torch.tensor(centre).expand(3, -1)[:, :, None]
    voxel = view.to_crop(point)[sample, :, 0].double().tolist()
    ends = zip(voxel, view.crop_size, strict=True)
    inside = all(-0.5 <= at <= size - 0.5 for at, size in ends)
    return [at * mm for at, mm in zip(voxel, spacing, strict=True)], inside


@pytest.mark.parametrize("how", SETTINGS)
@pytest.mark.parametrize("dims", [2, 3])
def test_pairs_are_those_of_a_loop_in_mm(dims: int, how: str):
    first, second = made(dims, how, 0), made(dims, "rigid", 1)
    grid, spacing = GRID[dims], SPACING[dims]
    one, other = cells(first, grid), cells(second, grid)
    apart = distances(one, other)
    near = near_pairs(one, other, apart, 0.7)
    for sample in range(3):
        most = 0.7 * max(diagonal(view, sample, grid, spacing) for view in (first, second))
        theirs = [place(second, sample, q, grid, spacing) for q in range(math.prod(grid))]
        for p in range(math.prod(grid)):
            here, inside = place(first, sample, p, grid, spacing)
            assert bool(one.inside[sample, p]) == inside
            for q, (there, also) in enumerate(theirs):
                gap = math.dist(here, there)
                assert float(apart[sample, p, q]) == pytest.approx(gap, abs=1e-3)
                if abs(gap - most) > 1e-3:
                    assert bool(near[sample, p, q]) == (gap < most and inside and also)
    assert near.any()
    assert not near.all()
    assert torch.equal(far_pairs(other, apart, 5.0), (apart > 5) & other.inside[:, None])


def diagonal(view: View, sample: int, grid: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    """The root mean square of a cell's diagonals, from its corners."""
    linear = view.theta[sample, :, :-1].double().numpy()
    edges = [
        [linear[axis, k] * spacing[axis] * size / count for axis in range(len(grid))]
        for k, (size, count) in enumerate(zip(view.size, grid, strict=True))
    ]
    squares = []
    for signs in range(2 ** len(grid)):
        turned = [[(-1) ** (signs >> k & 1) * x for x in edge] for k, edge in enumerate(edges)]
        squares.append(sum(sum(column) ** 2 for column in zip(*turned, strict=True)))
    return math.sqrt(sum(squares) / len(squares))


def test_known_values():
    draw = Draw(torch.zeros(1, dtype=torch.int64))
    whole = make_view(torch.zeros(1, 1, 8, 8), draw, ViewSettings(), (8, 8), (1, 3))
    found = cells(whole, (2, 4))
    assert found.diagonal.tolist() == [pytest.approx(math.hypot(4, 6))]
    assert found.position[0, :, 0].tolist() == [1.5, 1.5]
    assert found.position[0, :, -1].tolist() == [5.5, 19.5]
    assert found.inside.all()
    apart = distances(found, found)[0]
    assert apart.diag().tolist() == [0.0] * 8
    assert float(apart[0, 1]) == 6.0
    assert float(apart[0, 4]) == 4.0
    # 0.7 diagonals are 5.05 mm: the neighbour along the first axis, not along the second.
    pairs = near_pairs(found, found, distances(found, found), 0.7)[0]
    assert pairs[0].tolist() == [True, False, False, False, True, False, False, False]


def test_without_spacing_or_size_voxels_count_and_nothing_is_outside():
    theta = torch.tensor([[[2.0, 0.0, -10.0], [0.0, 2.0, 0.0]]])
    view = View(torch.zeros(1, 1, 4, 4), theta)
    found = cells(view, (2, 2))
    assert found.inside.all()
    assert found.diagonal.tolist() == [pytest.approx(math.hypot(4, 4))]
    assert not cells(View(view.image, theta, crop_size=(8, 8)), (2, 2)).inside.any()


def test_distances_keep_their_precision_far_from_the_first_voxel():
    def at(mm: float) -> Tensor:
        theta = torch.tensor([[[1.0, 0.0, mm], [0.0, 1.0, mm]]])
        return cells(View(torch.zeros(1, 1, 2, 2), theta), (2, 2))

    assert float(distances(at(4000.0), at(4000.25))[0, 0, 0]) == pytest.approx(0.25 * 2**0.5)
