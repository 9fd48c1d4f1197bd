from __future__ import annotations

import math

import pytest
import torch

from medssl.networks import ViT
from medssl.networks.patches import join_patches, pad_to_multiple, split_patches
from medssl.networks.vit import TransformerBlock, sincos_positions


def small(dims: int, patch: int = 4) -> ViT:
    return ViT(dims, 1, patch_size=patch, embed_dim=24, depth=2, heads=2)


def image(dims: int) -> torch.Tensor:
    return torch.randn(2, 1, *(12, 8, 16)[:dims])


@pytest.mark.parametrize("dims", [2, 3])
def test_tokens_and_feature_map(dims: int):
    vit, x = small(dims), image(dims)
    grid = (3, 2, 4)[:dims]
    assert vit.grid(x.shape[2:]) == grid
    assert vit.encode_tokens(x).shape == (2, math.prod(grid), 24)
    (feature,) = vit(x)
    assert feature.shape == (2, 24, *grid)
    torch.testing.assert_close(feature.flatten(2).transpose(1, 2), vit.encode_tokens(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_masked_voxels_have_no_influence(dims: int):
    vit, x = small(dims), image(dims)
    visible = torch.rand(2, 1, *vit.grid(x.shape[2:])) < 0.5
    visible.flatten(2)[:, :, 0] = True
    hidden = ~torch.nn.functional.interpolate(visible.float(), size=x.shape[2:]).bool()
    (feature,) = vit(x, visible)
    (other,) = vit(torch.where(hidden, torch.randn_like(x) * 50, x), visible)
    torch.testing.assert_close(feature, other, rtol=0, atol=0)
    assert not feature[~visible.expand_as(feature)].any()


@pytest.mark.parametrize("dims", [2, 3])
def test_kept_tokens_equal_masked_attention(dims: int):
    vit, x = small(dims), image(dims)
    grid = vit.grid(x.shape[2:])
    cells = math.prod(grid)
    keep = torch.stack([torch.randperm(cells)[: cells // 2] for _ in range(2)])
    visible = torch.zeros(2, cells, dtype=torch.bool).scatter(1, keep, True)
    (feature,) = vit(x, visible.reshape(2, 1, *grid))
    tokens = vit.encode_tokens(x, keep)
    assert tokens.shape == (2, cells // 2, 24)
    expected = feature.flatten(2).transpose(1, 2).gather(1, keep[..., None].expand(-1, -1, 24))
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def test_sizes_that_the_patch_does_not_divide_are_padded():
    vit = small(2)
    x = torch.randn(1, 1, 10, 7)
    (feature,) = vit(x)
    assert feature.shape == (1, 24, 3, 2)
    torch.testing.assert_close(vit(pad_to_multiple(x, 4))[0], feature)


def test_positions_are_unique_and_fixed():
    table = sincos_positions((3, 4, 5), 24, torch.device("cpu"))
    assert table.shape == (60, 24)
    assert float(torch.cdist(table, table).fill_diagonal_(1).min()) > 0.1
    # First axis: the first third of the width; its sines at position 2 of frequency 1.
    assert float(table[40, 0]) == pytest.approx(math.sin(2.0), abs=1e-6)
    assert float(table[40, 4]) == pytest.approx(math.cos(2.0), abs=1e-6)
    assert "position" not in " ".join(small(2).state_dict())


def test_positions_made_in_inference_mode_serve_training():
    sincos_positions.cache_clear()
    vit = small(2)
    with torch.inference_mode():
        vit(torch.randn(1, 1, 8, 8))
    vit(torch.randn(1, 1, 8, 8))[0].sum().backward()
    assert vit.embed.weight.grad is not None


@pytest.mark.parametrize("size", [(6, 4), (6, 4, 2)])
def test_patches_split_and_join(size: tuple[int, ...]):
    x = torch.randn(2, 3, *size)
    grid = tuple(n // 2 for n in size)
    patches = split_patches(x, grid)
    assert patches.shape == (2, math.prod(grid), 3 * 2 ** len(size))
    corner = x[(slice(None), slice(None), *(slice(0, 2),) * len(size))]
    assert torch.equal(patches[:, 0], corner.flatten(1))
    assert torch.equal(join_patches(patches, grid, size), x)


def test_bf16_autocast_runs_and_gradient_flows():
    vit = small(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (feature,) = vit(image(3))
    feature.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vit.parameters())
    assert vit.embed.weight.grad is not None
    assert vit.embed.weight.grad.any()


def test_refusals():
    with pytest.raises(ValueError, match="2D images"):
        small(2)(image(3))
    with pytest.raises(ValueError, match="does not divide"):
        small(2)(image(2), torch.ones(2, 1, 5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="do not divide"):
        TransformerBlock(10, 3)
    with pytest.raises(ValueError, match="does not divide"):
        split_patches(image(2), (5, 5))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_first_tokens_alone_can_be_attended_to(dims: int):
    vit = small(dims)
    tokens = torch.randn(2, 7, 24)
    seen = (torch.arange(7) < 3).expand(2, 1, 1, 7)
    first = vit.encode_embedded(tokens, context=3)
    torch.testing.assert_close(first, vit.encode_embedded(tokens, seen))
    torch.testing.assert_close(vit.encode_embedded(tokens, context=7), vit.encode_embedded(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        half = vit.encode_embedded(tokens, context=3)
    torch.testing.assert_close(half.float(), first, rtol=0.05, atol=0.05)
