from __future__ import annotations

import pytest
import torch

from medssl.views import (
    Draw,
    IntensitySettings,
    SpatialSettings,
    ViewSettings,
    make_view,
    sample_key,
)

FULL = ViewSettings(
    SpatialSettings(rotation=20, scale=(0.8, 1.2), flip_axes=(0,), crop_scale=(0.4, 1.0)),
    IntensitySettings(
        contrast=(0.7, 1.3),
        brightness=0.2,
        gamma=(0.7, 1.5),
        noise=0.1,
        blur=(0.5, 1.0),
        low_resolution=(1, 2),
    ),
)


def keys(n: int) -> torch.Tensor:
    return torch.tensor([sample_key(4, 1, index) for index in range(n)])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_sample_gives_the_same_view_alone_and_in_a_batch(dims: int):
    crops = torch.randint(-500, 500, (3, 1, *(12,) * dims), dtype=torch.int16)
    label = torch.randint(0, 3, (3, 1, *(12,) * dims), dtype=torch.uint8)
    size = (8,) * dims
    spacing = (2.0, 1.0, 1.5)[:dims]
    whole = make_view(crops, Draw(keys(3)).fork(1), FULL, size, spacing, label)
    assert whole.image.shape == (3, 1, *size)
    assert whole.image.dtype == torch.float32
    assert whole.theta.shape == (3, dims, dims + 1)
    assert whole.label is not None
    assert whole.label.dtype == torch.uint8
    one = make_view(crops[2:], Draw(keys(3)[2:]).fork(1), FULL, size, spacing, label[2:])
    torch.testing.assert_close(one.image[0], whole.image[2], rtol=1e-5, atol=1e-2)
    assert one.label is not None
    assert torch.equal(one.label[0], whole.label[2])


def test_two_streams_give_two_views():
    crops = torch.randn(2, 1, 12, 12)
    draw = Draw(keys(2))
    one, two = (make_view(crops, draw.fork(number), FULL, (8, 8)).image for number in (0, 1))
    assert float((one - two).abs().mean()) > 0.1


def test_defaults_change_nothing():
    crops = torch.randn(2, 1, 9, 7, 5)
    view = make_view(crops, Draw(keys(2)), ViewSettings(), (9, 7, 5))
    torch.testing.assert_close(view.image, crops, rtol=0, atol=1e-5)
    assert view.label is None


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="do not go with views"):
        make_view(torch.zeros(2, 1, 8, 8), Draw(keys(2)), ViewSettings(), (8, 8, 8))
    with pytest.raises(ValueError, match="drawn for 3"):
        make_view(torch.zeros(2, 1, 8, 8), Draw(keys(3)), ViewSettings(), (8, 8))
