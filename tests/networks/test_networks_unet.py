from __future__ import annotations

import pytest
import torch

from medssl.networks import UNetEncoder, build_encoder


@pytest.mark.parametrize("size", [(28, 28), (16, 24, 8)])
def test_feature_maps_have_the_announced_channels_and_strides(size: tuple[int, ...]):
    encoder = UNetEncoder(len(size), 2, widths=(8, 16, 24), blocks=2)
    features = encoder(torch.randn(2, 2, *size))
    assert encoder.strides == (1, 2, 4)
    for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
        assert feature.shape == (2, channels, *(-(-n // stride) for n in size))


def test_odd_sizes_round_up():
    features = UNetEncoder(2, 1, widths=(8, 8, 8))(torch.randn(1, 1, 7, 9))
    assert [tuple(f.shape[2:]) for f in features] == [(7, 9), (4, 5), (2, 3)]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("cell", [4, 8])
def test_masked_voxels_have_no_influence(dims: int, cell: int):
    encoder = UNetEncoder(dims, 1, widths=(8, 16, 16), blocks=2)
    grid = (4, 3, 2)[:dims]
    visible = torch.rand(2, 1, *grid) < 0.5
    visible.flatten(2)[:, :, 0], visible.flatten(2)[:, :, 1] = True, False
    size = tuple(n * cell for n in grid)
    hidden = ~torch.nn.functional.interpolate(visible.float(), size=size).bool()
    x = torch.randn(2, 1, *size, requires_grad=True)
    features = encoder(x, visible)
    changed = encoder(torch.where(hidden, torch.randn(2, 1, *size) * 50, x), visible)
    for feature, other in zip(features, changed, strict=True):
        assert torch.equal(feature, other)
        seen = torch.nn.functional.interpolate(visible.float(), size=feature.shape[2:]).bool()
        assert not feature[~seen.expand_as(feature)].any()
    sum(f.square().sum() for f in features).backward()
    assert x.grad is not None
    assert not x.grad[hidden].any()
    assert x.grad[~hidden].any()


def test_everything_visible_equals_no_mask():
    encoder = UNetEncoder(3, 1, widths=(8, 16))
    x = torch.randn(1, 1, 8, 8, 8)
    everywhere = torch.ones(1, 1, 2, 2, 2, dtype=torch.bool)
    for a, b in zip(encoder(x, everywhere), encoder(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_pooled_features_tell_images_apart():
    # An instance norm before the pooling would make every image's features the same.
    deep = UNetEncoder(2, 1)(torch.stack((torch.randn(1, 28, 28), torch.rand(1, 28, 28).round())))[
        -1
    ]
    means = deep.detach().mean((2, 3))
    assert float((means[0] - means[1]).abs().max()) > 0.05


def test_bf16_autocast_runs():
    encoder = UNetEncoder(3, 1, widths=(8, 16))
    visible = torch.rand(1, 1, 2, 2, 2) < 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for features in (
            encoder(torch.randn(1, 1, 8, 8, 8)),
            encoder(torch.randn(1, 1, 8, 8, 8), visible),
        ):
            assert all(torch.isfinite(f).all() for f in features)


def test_refusals():
    with pytest.raises(ValueError, match="3D images of 1 channel"):
        UNetEncoder(3, 1)(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="total stride"):
        UNetEncoder(2, 1)(torch.zeros(1, 1, 28, 28), torch.ones(1, 1, 7, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least one level"):
        UNetEncoder(2, 1, widths=())
    with pytest.raises(ValueError, match="no encoder named"):
        build_encoder("poetry", 2, 1)
    with pytest.raises(ValueError, match=r"no option \['width'\]"):
        build_encoder("unet", 2, 1, width=3)
    with pytest.raises(ValueError, match="2 or 3 dimensions"):
        build_encoder("unet", 4, 1)


@pytest.mark.parametrize("dims", [2, 3])
def test_one_visible_box_is_encoded_as_if_it_were_the_whole_image(dims: int):
    # Holds only if masked positions are zero before every convolution and absent from every norm.
    encoder = UNetEncoder(dims, 1, widths=(8, 16, 16), blocks=2)
    x = torch.randn(1, 1, *(24,) * dims)
    visible = torch.zeros(1, 1, *(3,) * dims, dtype=torch.bool)
    visible[(0, 0, *(1,) * dims)] = True
    box = x[(..., *(slice(8, 16),) * dims)]
    for feature, alone in zip(encoder(x, visible), encoder(box), strict=True):
        side = alone.shape[-1]
        inside = feature[(..., *(slice(side, 2 * side),) * dims)]
        torch.testing.assert_close(inside, alone, rtol=1e-4, atol=1e-4)
