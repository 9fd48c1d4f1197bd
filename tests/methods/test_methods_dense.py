from __future__ import annotations

import pytest
import torch
from method_cases import crops, make

from medssl.methods.dense import DENSE_VIEW, MOST_CELLS, dense_level
from medssl.methods.joint import STRONG_VIEW
from medssl.networks import build_encoder
from medssl.views import (
    Draw,
    SpatialParams,
    View,
    cells,
    distances,
    near_pairs,
    sample_key,
    view_draw,
    view_to_crop,
)


def unet(dims: int, levels: int = 4):
    return build_encoder("unet", dims, 1, widths=[2] * levels)


def test_the_level_is_the_deepest_with_enough_cells():
    assert dense_level(unet(3), (48, 48, 48), None) == (3, (6, 6, 6))
    assert dense_level(unet(3), (32, 32, 32), None) == (2, (8, 8, 8))
    assert dense_level(unet(2), (32, 32), None) == (2, (8, 8))
    assert dense_level(unet(2), (32, 72), None) == (3, (4, 9))  # 6 in the mean
    assert dense_level(unet(2), (4, 4), None) == (0, (4, 4))  # the finest, where none has
    assert dense_level(unet(2), (60, 60), None) == (2, (15, 15))  # 60 is no multiple of 8
    assert dense_level(unet(2), (32, 48), -1) == (3, (4, 6))
    assert dense_level(unet(2), (32, 48), 1) == (1, (16, 24))


def test_levels_are_refused_with_a_sentence():
    with pytest.raises(ValueError, match="has 4 maps, and none of level 4"):
        dense_level(unet(2), (32, 32), 4)
    with pytest.raises(ValueError, match="has 4 maps, and none of level -5"):
        dense_level(unet(2), (32, 32), -5)
    with pytest.raises(ValueError, match=f"2 to {MOST_CELLS} in all"):
        dense_level(unet(3), (32, 32, 32), 0)
    with pytest.raises(ValueError, match="must be a whole number of them"):
        dense_level(unet(2), (36, 36), 3)
    with pytest.raises(ValueError, match="2 to"):
        dense_level(unet(2), (8, 8), 3)
    vit = build_encoder("vit", 2, 1, patch_size=8, embed_dim=24, depth=1, heads=2)
    with pytest.raises(ValueError, match=r"for none of this encoder's maps .* have \[8\] voxels"):
        dense_level(vit, (36, 36), None)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("name", ["pixpro", "dense_contrast"])
def test_every_level_trains_the_whole_encoder(name: str, level: int):
    method = make(name, level=level)
    method.step(crops()).loss.backward()
    assert method.grid == (16 // 2**level,) * 2
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    deepest = method.encoder.levels[-1].parameters()
    assert all(p.grad.any() for p in deepest)


def test_student_and_teacher_see_the_same_at_first():
    method = make("dense_contrast").eval()
    views = method.mapped_views(crops())
    for one, other in zip(method.embed_cells(views), method.taught(views), strict=True):
        for name in ("features", "whole", "local", "cells"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name))
    alone = method.embed_cells(views[1:])[0]
    torch.testing.assert_close(alone.cells, method.embed_cells(views)[1].cells)


def test_the_teacher_follows_all_three():
    method = make("dense_contrast", momentum=0.5)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    before = [p.clone() for p in method.teacher.parameters()]
    method.after_update(0.0)
    parts = [method.encoder, method.dense_projector, method.projector]
    students = [p for part in parts for p in part.parameters()]
    assert len(students) == len(before)
    for old, new, student in zip(before, method.teacher.parameters(), students, strict=True):
        torch.testing.assert_close(new, (old + student) / 2)


def test_partners_show_the_same_place():
    """Views that are windows of a crop, 16 of its 24 voxels, 8 apart: half of the cells are in
    both."""
    method = make("pixpro", level=1)

    def window(start: float) -> View:
        theta = torch.tensor([[[1.0, 0.0, start], [0.0, 1.0, 0.0]]])
        return View(torch.zeros(1, 1, 16, 16), theta, crop_size=(24, 16))

    first, second = window(0), window(8)
    found = method.matched(first, second)
    assert found.valid.reshape(8, 8).sum(1).tolist() == [0, 0, 0, 0, 8, 8, 8, 8]
    rows = torch.arange(64.0).reshape(1, 64, 1)
    assert found.of(rows)[0, 32:, 0].tolist() == list(range(32))
    # 0.7 of the diagonal is 0.99 sides: the same cell, and not its neighbours.
    pairs = method.pairs(first, second)
    assert pairs[0, 4 * 8 + 3].nonzero()[:, 0].tolist() == [3]
    assert pairs.any(2).reshape(8, 8).sum(1).tolist() == [0, 0, 0, 0, 8, 8, 8, 8]
    # Beyond the crop, where it shows padding, a cell has no partner, whatever lies there.
    outside = window(-8)
    assert method.matched(outside, outside).valid.reshape(8, 8).sum(1).tolist() == [0] * 4 + [8] * 4
    assert not method.pairs(outside, outside)[0, :32].any()


@pytest.mark.parametrize("name", ["pixpro", "dense_contrast"])
def test_views_that_share_nothing_give_no_nan(name: str):
    method, batch = make(name), crops()
    made = method.mapped_views(batch)
    apart = [View(v.image, v.theta.clone(), spacing=v.spacing, crop_size=v.crop_size) for v in made]
    apart[1].theta[:2, :, -1] += 1000.0  # of the first two samples
    method.mapped_views = lambda crops: apart
    step = method.step(batch)
    step.loss.backward()
    assert step.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)
    assert all(rows.isfinite().all() for rows in step.positives)


def test_what_a_run_is_watched_by_are_cells_with_a_partner():
    from medssl.methods.dense import Partners, watched

    valid = torch.zeros(4, 9, dtype=torch.bool)
    valid[:, [1, 4, 5, 7, 8]] = True
    index = torch.arange(9).flip(0).expand(4, -1)
    query = torch.arange(9.0).expand(4, -1)[..., None]
    key = query * 10
    first, second = watched(crops(), query, key, Partners(index, valid))
    assert first.shape == second.shape == (16, 1)
    assert set(first.flatten().tolist()) <= {1, 4, 5, 7, 8}
    assert torch.equal(second, 80 - 10 * first)
    assert len({tuple(row.tolist()) for row in first.reshape(4, 4)}) > 1


@pytest.mark.parametrize("dims", [2, 3])
def test_the_preview_is_brightest_where_the_middle_is(dims: int):
    """An encoder that tells places apart: projections that are the place in the crop."""
    method, batch = make("pixpro", dims=dims), crops(dims=dims)
    embed = method.embed_cells

    def by_place(views):
        from dataclasses import replace

        def code(view):
            at = method.cells(view).position.transpose(1, 2)
            return torch.cat((torch.cos(at / 8), torch.sin(at / 8)), dim=2)

        made = zip(embed(views), views, strict=True)
        return [replace(one, cells=code(view)) for one, view in made]

    method.embed_cells = by_place
    shown = method.preview(batch)["like middle of 2"]
    half = 16 // 2
    middle = shown[(slice(None), 0, *(half,) * dims)]
    second, first = method.mapped_views(batch)[::-1]
    found = method.matched(second, first)
    count = method.grid[0] // 2
    number = sum(count * method.grid[0] ** k for k in range(dims))
    has = found.valid[:, number]
    assert has.any()
    assert (middle >= shown.flatten(1).quantile(0.8, dim=1))[has].all()


@pytest.mark.parametrize(
    ("view", "dims", "cells_along", "share"),
    [
        (STRONG_VIEW, 3, 4, 0.94),
        (STRONG_VIEW, 3, 6, 0.72),
        (DENSE_VIEW, 3, 4, 0.60),
        (DENSE_VIEW, 3, 6, 0.28),
        (DENSE_VIEW, 2, 6, 0.23),
    ],
)
def test_the_place_in_a_view_does_not_give_the_partner_away(view, dims, cells_along, share):
    """How many cells with a partner have one at the same place of the other view."""
    size, grid = (48,) * dims, (cells_along,) * dims
    draw = Draw(torch.tensor([sample_key(0, 0, number) for number in range(200)]))
    spatial, image = view.settings().spatial, torch.zeros(1).expand(200, 1, *size)
    made = []
    for number in range(2):
        drawn = SpatialParams.draw(view_draw(draw, number).fork(0), dims, spatial)
        made.append(View(image, view_to_crop(drawn, size, size), crop_size=size))
    one, other = (cells(each, grid) for each in made)
    near = near_pairs(one, other, distances(one, other), 0.7)
    has = near.any(2)
    same = near.diagonal(dim1=1, dim2=2).sum() / has.sum()
    assert float(same) == pytest.approx(share, abs=0.02)
    assert float(has.any(1).float().mean()) > 0.97  # nearly all samples have pairs
