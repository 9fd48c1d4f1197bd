from __future__ import annotations

import pytest
import torch

from medssl.views import (
    Draw,
    IntensitySettings,
    SpatialSettings,
    ViewPlan,
    ViewSettings,
    make_view,
    make_views,
    sample_key,
    view_draw,
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


@pytest.mark.parametrize("dims", [2, 3])
def test_views_of_several_plans_are_those_made_alone(dims: int):
    crops = torch.randint(-500, 500, (3, 2, *(12,) * dims), dtype=torch.int16)
    label = torch.randint(0, 3, (3, 1, *(12,) * dims), dtype=torch.uint8)
    warped = ViewSettings(SpatialSettings(elastic=1.0, rotation=90), FULL.intensity)
    plans = [ViewPlan(FULL, (8,) * dims, 2), ViewPlan(warped, (4,) * dims, 3)]
    spacing = torch.tensor([[2.0, 1.0, 1.5], [1.0, 1.0, 1.0], [1.0, 4.0, 2.0]])[:, :dims]
    views = make_views(crops, Draw(keys(3), 7), plans, spacing, label)
    assert [view.size[0] for view in views] == [8, 8, 4, 4, 4]
    for number, (view, plan) in enumerate(zip(views, [plans[0]] * 2 + [plans[1]] * 3, strict=True)):
        alone = make_view(
            crops[1:2],
            view_draw(Draw(keys(3)[1:2], 7), number),
            plan.settings,
            plan.size,
            spacing[1:2],
            label[1:2],
        )
        torch.testing.assert_close(view.image[1:2], alone.image, rtol=1e-5, atol=2e-2)
        torch.testing.assert_close(view.theta[1:2], alone.theta)
        assert view.label is not None
        assert alone.label is not None
        assert torch.equal(view.label[1:2], alone.label)
        assert view.spacing is not None
        assert torch.equal(view.spacing, spacing)
        assert (view.displacement is None) == (plan is plans[0])
    assert len({float(view.image.sum()) for view in views}) == 5


def test_what_is_not_moved_is_copied_bit_for_bit():
    crops = torch.randint(-500, 500, (6, 1, 9, 8, 7), dtype=torch.int16)
    label = torch.randint(0, 9, (6, 1, 9, 8, 7), dtype=torch.uint8)
    view = make_view(crops, Draw(keys(6)), ViewSettings(), (9, 8, 7), label=label)
    assert torch.equal(view.image, crops.float())
    assert view.label is not None
    assert torch.equal(view.label, label)
    mirrored = ViewSettings(SpatialSettings(flip_axes=(1,), random_position=True))
    view = make_view(crops, Draw(keys(6)), mirrored, (5, 8, 4), label=label)
    for b in range(6):
        x, z = int(view.theta[b, 0, 3]), int(view.theta[b, 2, 3])
        expected = crops[b, :, x : x + 5, :, z : z + 4].float()
        flipped = bool(view.theta[b, 1, 1] < 0)
        assert torch.equal(view.image[b], expected.flip(2) if flipped else expected)
    assert len(view.theta[:, 0, 3].unique()) > 1


def test_made_views_can_be_changed_without_changing_their_crops():
    crops = torch.randn(2, 1, 8, 8)
    kept = crops.clone()
    make_view(crops, Draw(keys(2)), ViewSettings(), (8, 8)).image.zero_()
    assert torch.equal(crops, kept)


def test_a_plan_of_no_views_is_refused():
    with pytest.raises(ValueError, match="0 views"):
        make_views(torch.zeros(1, 1, 8, 8), Draw(keys(1)), [ViewPlan(FULL, (8, 8), 0)])
