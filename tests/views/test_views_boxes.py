from __future__ import annotations

import pytest
import torch

from medssl.views import box_view, box_within, cell_positions, in_mm


def edges(first, last):
    return tuple(torch.tensor([row], dtype=torch.float32) for row in (first, last))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_whole_crop_is_the_crop_and_whole_voxels_are_copied(dims):
    size = [6, 5, 7][:dims]
    image = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(1, dims)
    whole = edges([-0.5] * dims, [n - 0.5 for n in size])
    torch.testing.assert_close(box_view(image, whole, size, ones).image, image)
    part = edges([0.5] * dims, [n - 1.5 for n in size])
    inner = tuple(slice(1, n - 1) for n in size)
    found = box_view(image, part, [n - 2 for n in size], ones).image
    torch.testing.assert_close(found, image[(..., *inner)])


def test_a_straight_ramp_is_read_exactly_and_the_view_knows_its_mm():
    """Linear interpolation keeps what is linear: values are places."""
    places = torch.stack(torch.meshgrid(*[torch.arange(8.0)] * 3, indexing="ij"))[None]
    spacing = torch.tensor([[1.0, 2.0, 4.0]])
    box = edges([1.0, 2.5, 0.0], [6.0, 6.5, 5.0])
    view = box_view(places, box, (10, 2, 4), spacing)
    torch.testing.assert_close(view.image[0, 0, :, 0, 0], 1.25 + 0.5 * torch.arange(10.0))
    torch.testing.assert_close(view.image[0, 1, 0, :, 0], torch.tensor([3.5, 5.5]))
    torch.testing.assert_close(view.image[0, 2, 0, 0], 0.625 + 1.25 * torch.arange(4.0))
    found = in_mm(view, cell_positions(view, (10, 2, 4)))
    torch.testing.assert_close(found, view.image * spacing.reshape(1, 3, 1, 1, 1))


def test_boxes_lie_within_others_whole_voxels_in():
    outer = edges([-0.5, 2.0], [9.5, 6.0])
    sides = torch.tensor([[4.3, 4.0]])
    for unit, start in ((0.0, -0.5), (0.17, 0.5), (0.5, 2.5), (0.999, 4.5)):
        first, last = box_within(outer, sides, torch.full((1, 2), unit))
        assert first.tolist() == [[start, 2.0]]
        assert torch.equal(last, first + sides)
    # All that there are come equally often.
    unit = torch.arange(600.0)[:, None] / 600
    wide = tuple(end.expand(600, -1)[:, :1] for end in outer)
    first, _ = box_within(wide, torch.full((600, 1), 4.3), unit)
    assert torch.unique(first, return_counts=True)[1].tolist() == [100] * 6


def test_what_does_not_belong_together_is_refused():
    image, two, three = torch.zeros(1, 1, 4, 4), edges([0, 0], [2, 2]), edges([0] * 3, [2] * 3)
    for boxes, size in ((three, (2, 2)), (two, (2, 2, 2)), ((two[0], three[1]), (2, 2))):
        with pytest.raises(ValueError, match="do not go with crops"):
            box_view(image, boxes, size, torch.ones(1, 2))
