"""The contract, kept by every encoder."""

from __future__ import annotations

import copy

import pytest
import torch
from small_encoders import SMALL
from torch import Tensor

from medssl.networks import Encoder, build_encoder
from medssl.networks.conv import visible_at

DIMS = pytest.mark.parametrize("dims", [2, 3])
SPARSE = [name for name in SMALL if name != "swin"]
TOKENS = ["vit", "swin"]


def small(kind: str, dims: int, in_channels: int = 1) -> Encoder:
    name, options = SMALL[kind]
    torch.manual_seed(0)
    return build_encoder(name, dims, in_channels, **options)


def masked_case(encoder: Encoder, cell: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, which of their cells are visible, and which of their voxels are not."""
    grid = (3, 2, 2)[: encoder.dims]
    visible = torch.zeros(2, 1, *grid, dtype=torch.bool)
    visible[0, 0, 0], visible[1, 0, 1] = True, True
    x = torch.randn(2, 1, *(cell * n for n in grid))
    hidden = ~visible_at(visible, x.shape[2:], torch.uint8).bool()
    return x, visible, hidden


@pytest.mark.parametrize("size", [(28, 28), (30, 33), (28, 30, 33)])
@pytest.mark.parametrize("kind", SMALL)
def test_maps_are_as_announced(kind: str, size: tuple[int, ...]):
    encoder = small(kind, len(size), in_channels=2)
    features = encoder(torch.randn(1, 2, *size))
    assert list(encoder.strides) == sorted(set(encoder.strides))
    for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
        assert feature.shape == (1, channels, *(-(-n // stride) for n in size))


@DIMS
@pytest.mark.parametrize("kind", SMALL)
def test_the_deepest_map_needs_every_weight_and_every_weight_has_a_layer(kind: str, dims: int):
    # All of them, or processes (DDP) would wait for gradients that never come.
    encoder = small(kind, dims)
    encoder(torch.randn(2, 1, *(24,) * dims))[-1].square().sum().backward()
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # A convolution's bias in front of an instance norm has no say.
    assert [n for n in silent if not n.endswith("conv1.bias")] == []
    layers = [encoder.layer_of(name) for name, _ in encoder.named_parameters()]
    assert sorted(set(layers)) == list(range(encoder.layers))
    assert layers == sorted(layers)


@DIMS
@pytest.mark.parametrize("kind", SPARSE)
def test_masked_voxels_have_no_influence(kind: str, dims: int):
    encoder = small(kind, dims)
    x, visible, hidden = masked_case(encoder, encoder.strides[-1])
    features = encoder(x.requires_grad_(), visible)
    with torch.no_grad():
        changed = encoder(torch.where(hidden, torch.randn_like(x) * 1e6, x), visible)
        other = encoder(torch.where(hidden, x, x.flip(2)), visible)
    for feature, same, different in zip(features, changed, other, strict=True):
        assert torch.equal(feature, same)
        assert not torch.equal(feature, different)
        seen = visible_at(visible, feature.shape[2:], torch.uint8).bool()
        assert not feature[~seen.expand_as(feature)].any()
    sum(f.square().sum() for f in features).backward()
    assert x.grad is not None
    assert not x.grad[hidden].any()
    assert x.grad[~hidden].any()


@DIMS
@pytest.mark.parametrize("kind", ["unet", "resnet", "classic", "bottleneck", "mednext"])
def test_a_visible_box_is_encoded_as_if_it_were_the_whole_image(kind: str, dims: int):
    # Holds only if masked positions are zero before every convolution and absent from every norm.
    encoder = small(kind, dims)
    cell = 2 * encoder.strides[-1]
    x = torch.randn(1, 1, *(2 * cell,) * dims)
    visible = torch.zeros(1, 1, *(2,) * dims, dtype=torch.bool)
    visible[(0, 0, *(1,) * dims)] = True
    box = x[(..., *(slice(cell, None),) * dims)]
    with torch.no_grad():
        for feature, alone in zip(encoder(x, visible), encoder(box), strict=True):
            inside = feature[(..., *(slice(alone.shape[-1], None),) * dims)]
            torch.testing.assert_close(inside, alone, rtol=1e-3, atol=1e-4)


@DIMS
@pytest.mark.parametrize("kind", SPARSE)
def test_everything_visible_equals_no_mask(kind: str, dims: int):
    encoder = small(kind, dims)
    x, visible, _ = masked_case(encoder, encoder.strides[-1])
    with torch.no_grad():
        for a, b in zip(encoder(x, torch.ones_like(visible)), encoder(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@DIMS
@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("patches", [1, 2])
def test_a_mask_token_takes_the_place_of_masked_patches(kind: str, dims: int, patches: int):
    encoder = small(kind, dims)
    token = torch.randn(encoder.token_width, requires_grad=True)
    x, visible, hidden = masked_case(encoder, patches * encoder.strides[0])
    features = encoder(x, visible, token)
    with torch.no_grad():
        changed = encoder(torch.where(hidden, torch.randn_like(x) * 1e6, x), visible, token)
        other = encoder(x, visible, token + 1)
        for feature, same, different in zip(features, changed, other, strict=True):
            assert torch.equal(feature, same)
            assert not torch.equal(feature, different)
        for a, b in zip(encoder(x, torch.ones_like(visible), token), encoder(x), strict=True):
            torch.testing.assert_close(a, b)
    # Unlike with `visible` alone, masked positions answer.
    seen = visible_at(visible, features[0].shape[2:], torch.uint8).bool()
    assert features[0][~seen.expand_as(features[0])].any()
    features[-1].square().sum().backward()
    assert token.grad is not None
    assert token.grad.any()


@pytest.mark.parametrize("kind", SMALL)
def test_pooled_features_tell_images_apart(kind: str):
    # Norms that leave every image the same means would leave nothing to pool.
    deep = small(kind, 2)(torch.stack((torch.randn(1, 28, 28), torch.rand(1, 28, 28).round())))[-1]
    means = deep.detach().mean((2, 3))
    assert float((means[0] - means[1]).abs().max()) > 0.05


@pytest.mark.parametrize("kind", SMALL)
def test_copies_agree_and_bf16_runs(kind: str):
    encoder = small(kind, 2)
    again = small(kind, 2)
    again.load_state_dict(copy.deepcopy(encoder).state_dict())
    x, visible, _ = masked_case(encoder, encoder.strides[-1])
    token = torch.zeros(encoder.token_width) if encoder.token_width else None
    for a, b in zip(encoder(x), again(x), strict=True):
        assert torch.equal(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(f.isfinite().all() for f in encoder(x))
        assert all(f.isfinite().all() for f in encoder(x, visible, token))


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("unet", {"blocks": [1, 2]}, "4 widths and 2 blocks"),
        ("unet", {"widths": []}, "at least one level"),
        ("unet", {"blocks": 0}, "one block a level"),
        ("resnet", {"depth": 20}, "depth of"),
        ("resnet", {"stem": "tiny"}, "small or classic"),
        ("resnet", {"width": 0}, "at least one channel"),
        ("mednext", {"expansion": [2, 3]}, "5 levels and 2 expansions"),
        ("mednext", {"blocks": []}, "one block a level"),
        ("mednext", {"kernel": 4}, "odd"),
        ("swin", {"depths": [2, 2]}, "heads for each stage"),
        ("swin", {"heads": [5, 6, 12, 24]}, "5 heads do not divide"),
        ("swin", {"window": 1}, "at least 2 cells"),
        ("vit", {"heads": 5}, "5 heads do not divide"),
        ("resnet", {"depths": 18}, r"no option \['depths'\]"),
        ("convnext", {}, "no encoder named"),
    ],
)
def test_options_that_make_no_encoder_are_refused(name: str, options: dict, match: str):
    with pytest.raises(ValueError, match=match):
        build_encoder(name, 2, 1, **options)


def test_masks_an_encoder_cannot_take_are_refused():
    x, visible = torch.randn(1, 1, 16, 16), torch.ones(1, 1, 2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="cannot leave masked positions out"):
        small("swin", 2)(x, visible)
    with pytest.raises(ValueError, match="an encoder of patches, and a mask"):
        small("resnet", 2)(x, visible, torch.zeros(8))
    with pytest.raises(ValueError, match="an encoder of patches, and a mask"):
        small("swin", 2)(x, None, torch.zeros(12))
    with pytest.raises(ValueError, match=r"mask token of \(24,\)"):
        small("vit", 2)(x, visible, torch.zeros(12))
    for kind in ("mednext", "classic", "vit"):
        with pytest.raises(ValueError, match="does not divide"):
            small(kind, 2)(x, torch.ones(1, 1, 16, 16, dtype=torch.bool))
