from __future__ import annotations

import pytest
import torch

from medssl.views import Draw, SpatialSettings, ViewSettings, make_view, sample_key
from medssl.views.places import anywhere, displaced, first_good, free_range, inside, values_at

CPU = torch.device("cpu")


def drawn(count: int) -> Draw:
    return Draw(torch.tensor([sample_key(0, 0, n) for n in range(count)]))


def test_the_free_range_keeps_a_view_inside():
    low, high = free_range((8, 9, 4), (4, 3, 4), CPU)
    assert low.tolist() == [1.5, 1.0, 1.5]
    assert high.tolist() == [5.5, 7.0, 1.5]
    with pytest.raises(ValueError, match=r"\[9, 3\] voxels do not lie in crops of \[8, 9\]"):
        free_range((8, 9), (9, 3), CPU)


def test_a_view_is_cut_around_its_place():
    image = torch.arange(2 * 8 * 9.0).reshape(2, 1, 8, 9)
    centre = torch.tensor([[1.5, 1.0], [5.5, 7.0]])
    still = ViewSettings()
    view = make_view(image, drawn(2), still, (4, 3), centre=centre)
    assert torch.equal(view.image[0], image[0, :, :4, :3])
    assert torch.equal(view.image[1], image[1, :, 4:, 6:])
    turned = ViewSettings(SpatialSettings(rotation=20.0, scale=(0.8, 1.2), random_position=True))
    moved = make_view(image, drawn(2), turned, (4, 3), centre=centre)
    middle = torch.tensor([1.5, 1.0]).reshape(1, 2, 1).expand(2, -1, -1)
    torch.testing.assert_close(moved.to_crop(middle)[..., 0], centre)
    with pytest.raises(ValueError, match="2 views along 2 axes"):
        make_view(image, drawn(2), still, (4, 3), centre=centre[:1])


def test_places_fill_their_range():
    low, high = torch.tensor([1.0, 2.0]), torch.tensor([5.0, 2.0])
    unit = torch.tensor([[[0.0, 0.5], [0.0, 0.9]]])
    assert torch.equal(anywhere(unit, low, high), torch.tensor([[[1.0, 3.0], [2.0, 2.0]]]))
    points = torch.tensor([[0.0, 3.0], [9.0, 1.0]])
    assert torch.equal(inside(points, low, high), torch.tensor([[1.0, 2.0], [5.0, 2.0]]))


def test_displaced_places_are_half_a_view_away_and_inside():
    low, high = free_range((16, 8, 24), (8, 8, 12), CPU)
    least = low + 0.5
    unit = drawn(2000).uniform(0.0, 1.0, 4)
    place = anywhere(drawn(2000).fork(1).uniform(0.0, 1.0, 3), low, high)
    place[0] = (low + high) / 2  # nothing lies further away than the ends
    found = displaced(place, low, high, least, [0, 2], unit)
    assert ((found >= low) & (found <= high)).all()
    far = (found - place).abs() >= least - 1e-4
    assert (far[:, 0] | far[:, 2]).all()
    assert not far[:, 1].any()
    # Both axes and both sides are taken, and the other axis goes anywhere.
    assert far[:, 0].float().mean() > 0.5
    assert far[:, 2].float().mean() > 0.5
    assert (found < place).float().mean(0)[[0, 2]].sub(0.5).abs().max() < 0.1


def test_values_are_of_the_nearest_voxel():
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    points = torch.tensor([[[0.4, 1.6, 9.0], [3.4, 0.0, -1.0]]])
    assert values_at(image, points).tolist() == [[[3.0, 8.0, 8.0], [15.0, 20.0, 20.0]]]


def test_the_first_good_one_is_taken_else_the_best():
    yes, no = True, False
    good = torch.tensor([[no, yes, yes], [no, yes, yes], [no, no, no]])
    bright = torch.tensor([[yes, no, yes], [yes, no, no], [yes, no, yes]])
    score = torch.tensor([[0.9, 0.1, 0.1], [0.9, 0.1, 0.5], [-3.0, 0.2, float("-inf")]])
    assert first_good(good, bright, score).tolist() == [2, 1, 1]
