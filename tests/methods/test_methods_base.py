from __future__ import annotations

import pytest
import torch

from medssl.methods import Crops
from medssl.views import Draw


def crops_of(place: torch.Tensor, extent: torch.Tensor, size: tuple[int, ...]) -> Crops:
    count = len(place)
    image = torch.arange(count).float().reshape(-1, *(1,) * (len(size) + 1)).expand(-1, 1, *size)
    numbers = torch.arange(count)
    return Crops(image, Draw(numbers, 3), torch.ones(count, 2), numbers, numbers, place, extent)


def test_places_of_the_volume_are_found_in_the_crops():
    # Turned by a quarter, mirrored, and of other spacing: as planes of volumes are cut.
    place = torch.tensor([[[0.0, -2.0, 30.0], [3.0, 0.0, 4.0]], [[1.0, 0.0, 7.0], [0.0, 0.5, 0.0]]])
    crops = crops_of(place, torch.tensor([[40.0, 60.0], [20.0, 10.0]]), (8, 8))
    points = torch.randn(2, 2, 3, 5)
    torch.testing.assert_close(crops.from_relative(crops.relative(points)), points)
    middle = crops.from_relative(torch.full((2, 2, 1), 0.5))[..., 0]
    # (20, 30) and (10, 5) mm, by hand
    assert middle.tolist() == [[pytest.approx(26 / 3), 5.0], [3.0, 10.0]]


def test_of_a_plane_the_nearest_point_is_found():
    # Rows run down along z, columns to the left along x; the plane lies at 12 mm of 20.
    place = torch.tensor([[[0.0, -1.0, 9.0], [0.0, 0.0, 12.0], [-2.0, 0.0, 18.0]]])
    crops = crops_of(place, torch.tensor([[10.0, 20.0, 20.0]]), (8, 8))
    found = crops.from_relative(torch.tensor([[[0.5], [0.1], [0.5]]]))
    assert found.flatten().tolist() == [4.0, 4.0]
    assert crops.relative(found)[0, :, 0].tolist() == pytest.approx([0.5, 0.6, 0.5])


def test_taking_crops_takes_all_of_them():
    place = torch.eye(2, 3).repeat(3, 1, 1) * torch.arange(1.0, 4).reshape(3, 1, 1)
    crops = crops_of(place, torch.rand(3, 2), (4, 4))
    taken = crops.take(torch.tensor([2, 0]))
    assert len(taken) == 2
    for name in ("image", "spacing", "volume", "subject", "place", "extent"):
        assert torch.equal(getattr(taken, name), getattr(crops, name)[[2, 0]])
    assert torch.equal(taken.draw.uniform(0.0, 1.0, 4), crops.draw.uniform(0.0, 1.0, 4)[[2, 0]])
