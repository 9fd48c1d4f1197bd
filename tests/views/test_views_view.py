from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.views import (
    Draw,
    SpatialSettings,
    View,
    ViewPlan,
    ViewSettings,
    cell_positions,
    in_crop,
    in_mm,
    in_volume,
    make_view,
    make_views,
    match_cells,
    match_points,
    overlap,
    positions,
    sample_key,
    view_draw,
)
from medssl.views.view import lattice

CROP = {2: (20, 24), 3: (20, 16, 12)}
SIZE = {2: (12, 16), 3: (12, 8, 8)}
SPACING = {2: (1.0, 2.5), 3: (0.8, 1.5, 3.0)}
RIGID = SpatialSettings(rotation=25, crop_scale=(0.3, 0.7), aspect=1.4, flip_axes=(0, 1), shear=8)
WARPED = SpatialSettings(rotation=25, crop_scale=(0.3, 0.7), elastic=3.0, elastic_cells=3)


def keys(n: int) -> Tensor:
    return torch.tensor([sample_key(6, 0, index) for index in range(n)])


def coordinates(dims: int, n: int = 3) -> Tensor:
    """Crops of d channels that hold the place of every voxel."""
    axes = [torch.arange(float(length)) for length in CROP[dims]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(n, dims, *CROP[dims])


def made(dims: int, settings: SpatialSettings, number: int = 0, n: int = 3) -> View:
    draw = view_draw(Draw(keys(n)), number)
    return make_view(coordinates(dims, n), draw, ViewSettings(settings), SIZE[dims], SPACING[dims])


@pytest.mark.parametrize("settings", [RIGID, WARPED], ids=["rigid", "warped"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_view_shows_what_its_map_says(dims: int, settings: SpatialSettings):
    view = made(dims, settings)
    where = positions(view)
    last = torch.tensor(CROP[dims]).reshape(-1, *(1,) * dims) - 1.0
    inside = ((where >= 0) & (where <= last)).all(1, keepdim=True).expand_as(where)
    assert inside.float().mean() > 0.7
    assert float((view.image - where)[inside].abs().max()) < 1e-3
    assert (view.displacement is not None) == (settings is WARPED)
    # The same point by point, and in mm.
    torch.testing.assert_close(cell_positions(view, SIZE[dims]), where, rtol=0, atol=1e-4)
    mm = torch.tensor(SPACING[dims]).reshape(-1, *(1,) * dims)
    torch.testing.assert_close(in_mm(view, where), where * mm)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_warp_is_as_far_as_asked_in_mm(dims: int):
    still = SpatialSettings(rotation=25, crop_scale=(0.9, 1.0))
    warped = SpatialSettings(rotation=25, crop_scale=(0.9, 1.0), elastic=0.5)
    mm = torch.tensor(SPACING[dims]).reshape(-1, *(1,) * dims)
    moved = (positions(made(dims, warped, n=8)) - positions(made(dims, still, n=8))) * mm
    far = moved.square().sum(1).sqrt().max()
    assert 0.2 < float(far) <= 0.5 * math.sqrt(dims) + 1e-4


@pytest.mark.parametrize("settings", [RIGID, WARPED], ids=["rigid", "warped"])
@pytest.mark.parametrize("dims", [2, 3])
def test_there_and_back(dims: int, settings: SpatialSettings):
    view = made(dims, settings)
    axes = [torch.linspace(1, length - 2, 4) for length in SIZE[dims]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(3, dims, *(4,) * dims)
    torch.testing.assert_close(view.from_crop(view.to_crop(points)), points, rtol=0, atol=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_matches_are_the_nearest_cells(dims: int):
    first, second = made(dims, WARPED, 0), made(dims, RIGID, 1)
    grid, other = tuple(s // 4 for s in SIZE[dims]), tuple(s // 2 for s in SIZE[dims])
    match = match_cells(first, second, grid, other)
    assert match.valid.any()
    assert not match.valid.all()
    here = cell_positions(first, grid).flatten(2)
    torch.testing.assert_close(second.to_crop(match.position), here, rtol=0, atol=1e-3)
    there = cell_positions(second, other).flatten(2)
    # Within the rigid view distances are those of the crop through its inverse.
    back = torch.linalg.inv(second.theta[:, :, :-1])
    gap = torch.einsum("bij,bjpq->bipq", back, here[:, :, :, None] - there[:, :, None])
    nearest = gap.abs().amax(1).argmin(2)
    assert torch.equal(match.index[match.valid], nearest[match.valid])
    assert float(gap.abs().amax(1).amin(2)[match.valid].max()) <= 1.0 + 1e-3


def test_a_view_matches_itself_and_its_mirror():
    view = made(2, SpatialSettings())
    match = match_cells(view, view, (3, 4))
    assert match.valid.all()
    assert torch.equal(match.index, torch.arange(12).expand(3, -1))
    assert torch.equal(overlap(view, view, (3, 4)), torch.ones(3))
    mirror = torch.tensor([-1.0, 1.0])[:, None]
    flipped = View(view.image, view.theta * mirror, spacing=view.spacing, crop_size=CROP[2])
    # Row v of the mirror is where 2 * offset + v was: theta is the map, so set it by hand.
    flipped.theta[:, 0, 2] = view.theta[:, 0, 2] + SIZE[2][0] - 1
    expected = torch.arange(12).reshape(3, 4).flip(0).flatten()
    assert torch.equal(match_cells(view, flipped, (3, 4)).index, expected.expand(3, -1))


def test_cells_outside_the_other_view_or_the_crop_are_not_valid():
    crops = torch.zeros(1, 1, 16, 8)
    whole = make_view(crops, Draw(keys(1)), ViewSettings(), (16, 8))
    half = View(torch.zeros(1, 1, 8, 8), whole.theta, crop_size=(16, 8))
    match = match_cells(whole, half, (4, 1), (2, 1))
    assert match.valid.tolist() == [[True, True, False, False]]
    assert match.index.tolist() == [[0, 1, 1, 1]]
    assert overlap(whole, half, (4, 1)).tolist() == [0.5]
    wide = make_view(crops, Draw(keys(1)), ViewSettings(), (24, 8))
    assert match_cells(wide, wide, (6, 1)).valid.tolist() == [[False, *[True] * 4, False]]


def test_the_volume_is_one_more_map():
    view = made(3, WARPED)
    points = torch.rand(3, 3, 5) * 7
    spacing, start = torch.tensor([2.0, 0.5, 1.0]), torch.tensor([10.0, 20.0, -5.0])
    place = torch.cat((torch.diag(spacing), start[:, None]), dim=1).expand(3, -1, -1)
    expected = view.to_crop(points) * spacing[:, None] + start[:, None]
    torch.testing.assert_close(in_volume(view, points, place), expected)


def test_maps_keep_their_precision_under_autocast():
    view = made(3, WARPED)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(positions(made(3, WARPED)), positions(view))
        assert torch.equal(cell_positions(view, (2, 2, 2)), cell_positions(view, (2, 2, 2)).float())


def test_points_are_matched_as_cells_are():
    crops = torch.randn(3, 1, 12, 10)
    draw = Draw(torch.tensor([sample_key(0, 0, number) for number in range(3)]))
    settings = ViewSettings(SpatialSettings(rotation=20, crop_scale=(0.3, 0.8), elastic=1.0))
    one, other = make_views(crops, draw, [ViewPlan(settings, (8, 8), 2)])
    match = match_cells(one, other, (4, 4))
    centres = lattice((8, 8), (4, 4), crops.device).flatten(1).expand(3, -1, -1)
    where, valid = match_points(one, other, centres)
    torch.testing.assert_close(where, match.position)
    assert torch.equal(valid, match.valid)
    assert valid.any()
    assert not valid.all()
    outside = torch.tensor([[[-0.6, -0.4, 11.4, 11.6, 3.0], [2.0, 2.0, 2.0, 2.0, 9.6]]])
    assert in_crop(one, outside.expand(3, -1, -1))[0].tolist() == [False, True, True, False, False]
