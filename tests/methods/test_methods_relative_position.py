from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import crops, make

from medssl.methods import Samples
from medssl.methods.relative_position import RelativePosition, RelativePositionConfig, neighbours
from medssl.networks import build_encoder
from medssl.views import box_view, cell_positions, in_mm


def test_neighbours_are_all_cells_but_the_own_in_row_major_order():
    assert neighbours(2).tolist() == [
        [-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1],
    ]  # fmt: skip
    steps = neighbours(3)
    assert len(steps) == 26
    cells = ((steps + 1) * torch.tensor([9, 3, 1])).sum(1)
    assert cells.tolist() == [k for k in range(27) if k != 13]


@pytest.mark.parametrize("dims", [2, 3])
def test_patches_lie_where_they_are_said_to_in_mm(dims):
    """By the views' own maps, in crops of uneven spacing, for every neighbour."""
    method = make("relative_position", dims=dims, side=32, gap=0.4, jitter=0.0, share=(1.0, 1.0))
    steps = neighbours(dims)
    spacing = torch.tensor([1.0, 2.0, 0.5])[:dims].expand(len(steps), -1)
    batch = crops(len(steps), dims, side=32)
    place = torch.diag_embed(spacing)
    place = torch.cat((place, spacing[..., None] / 2), dim=2)
    batch = replace(batch, spacing=spacing, place=place, extent=32 * spacing)
    centres = []
    for edges in method.boxes(batch, torch.arange(len(steps))):
        view = box_view(batch.image, edges, (8,) * dims, spacing)
        centres.append(in_mm(view, cell_positions(view, (1,) * dims)).flatten(1))
    side = 32 / 3.8  # voxels; three patches and two gaps of 0.4
    torch.testing.assert_close(centres[0], 15.5 * spacing)
    torch.testing.assert_close(centres[1] - centres[0], steps * 1.4 * side * spacing)


def test_patches_never_touch_and_fill_the_crop():
    method = make("relative_position", side=32, gap=0.5, jitter=0.2, share=(1.0, 1.0))
    batch = crops(256, side=32)
    (first, last), (start, end) = method.boxes(batch, method._drawn(batch))
    side = 32 / 4.4
    for low, high in ((first, last), (start, end)):
        torch.testing.assert_close(high - low, torch.full_like(low, side))
        assert low.amin() >= -0.5
        assert high.amax() <= 31.5
    assert min(first.amin(), start.amin()) < 0.2
    assert max(last.amax(), end.amax()) > 30.8
    apart = torch.maximum(start - last, first - end).amax(1)
    assert apart.amin() >= 0.1 * side - 1e-4  # the gap less both shifts
    shifts = ((first + last) / 2 - 15.5) / side
    assert shifts.abs().amax() <= 0.2
    assert shifts.std() > 0.1


def test_both_patches_change_in_intensity_independently():
    only = {"probability": 1.0, "brightness": 0.5}
    method, batch = make("relative_position", intensity=only), crops(8)
    plain = make("relative_position", intensity={"probability": 0.0})
    first, second = (
        (a - b).mean((1, 2, 3))
        for a, b in zip(method.views(batch), plain.views(batch), strict=True)
    )
    assert (first - second).abs().amin() > 1e-3


def test_the_head_compares_the_patches_in_their_order():
    method, batch = make("relative_position"), crops(8)
    views = method.views(batch)
    there, back = (method._guess(pair)[1] for pair in (views, views[::-1]))
    assert not torch.allclose(there, back)
    torch.testing.assert_close(method._guess(views)[0], method.step(batch).embedding)


def test_a_patch_is_about_as_fine_as_the_crop_and_at_least_two_cells():
    for dims, side, stride, expected in ((2, 64, 4, 16), (2, 128, 4, 32), (3, 32, 8, 16)):
        widths = [4] * (stride.bit_length())
        encoder = build_encoder("unet", dims, 1, widths=widths)
        assert encoder.strides[-1] == stride
        found = RelativePosition(RelativePositionConfig(), encoder, Samples((side,) * dims))
        assert found._size == (expected,) * dims


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="patches overlap"):
        RelativePositionConfig(gap=0.1, jitter=0.06)
    with pytest.raises(ValueError, match="size has 2 numbers here, not 3"):
        make("relative_position", size=[8, 8, 8])


def test_the_preview_shows_where_they_lie_and_where_they_are_put():
    method, batch = make("relative_position", side=32).eval(), crops(6, side=32)
    drawn = method._drawn(batch)
    method._guess = lambda views: (None, torch.nn.functional.one_hot(drawn, 8).float())
    shown = method.preview(batch)
    assert list(shown) == ["crop", "patch", "neighbour", "where", "guess"]
    assert torch.equal(shown["where"], shown["guess"])
    kept = shown["where"] != batch.image.amin()
    assert torch.equal(shown["where"][kept], batch.image[kept])
    side = method.boxes(batch, drawn)[0]
    voxels = 2 * ((side[1] - side[0]).prod(1))
    assert ((kept.flatten(1).sum(1) / voxels - 1).abs() < 0.35).all()


def test_of_volumes_the_boxes_are_seen_from_above():
    method, batch = make("relative_position", dims=3).eval(), crops(26, 3)
    (first, last), _ = method.boxes(batch, torch.arange(26))
    shown = method.preview(batch)["where"]
    assert torch.equal(shown[..., :1].expand_as(shown), shown)
    middle = ((first + last) / 2).round().long()
    for row in range(26):
        x, y = middle[row, :2].tolist()
        assert (shown[row, 0, x, y] > batch.image.amin()).all()
