from __future__ import annotations

import pytest
import torch

from medssl.networks.conv import ConvBlock, MaskedNorm, channels_last, visible_at


def field(dims: int, channels: int, n: int = 2) -> torch.Tensor:
    return torch.randn(n, channels, *(6, 4, 8)[:dims])


@pytest.mark.parametrize("channels", [16, 5])
@pytest.mark.parametrize("dims", [2, 3])
def test_masked_norm_uses_visible_voxels_only(dims: int, channels: int):
    x = field(dims, channels) * 2 + 3
    norm = MaskedNorm(channels)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    visible = torch.rand(2, 1, *x.shape[2:]) < 0.4
    got = norm(x, visible.float())
    share = channels // norm.num_groups
    for b in range(2):
        for g in range(norm.num_groups):
            for c in range(g * share, (g + 1) * share):
                seen = x[b, g * share : (g + 1) * share][:, visible[b, 0]]
                scaled = (x[b, c] - seen.mean()) / (seen.var(correction=0) + norm.eps).sqrt()
                expected = scaled * norm.weight[c] + norm.bias[c]
                torch.testing.assert_close(got[b, c], expected, rtol=1e-4, atol=1e-4)


def test_all_visible_equals_no_mask():
    x = field(3, 16)
    block = ConvBlock(3, 16, 24, stride=2)
    everywhere = torch.ones(2, 1, 3, 2, 4)
    torch.testing.assert_close(block(x, everywhere), block(x), rtol=1e-4, atol=1e-5)


def test_nothing_visible_is_finite_zero():
    block = ConvBlock(3, 16, 16)
    got = block(torch.zeros(2, 16, 6, 4, 8), torch.zeros(2, 1, 6, 4, 8))
    assert torch.equal(got, torch.zeros_like(got))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_block_keeps_masked_positions_zero(dims: int, stride: int):
    visible = torch.rand(2, 1, *(6, 4, 8)[:dims]) < 0.5
    coarse = (
        torch.nn.functional.interpolate(visible[..., ::2, ::2].float(), scale_factor=2.0)
        if dims == 2
        else None
    )
    seen = visible.float() if coarse is None else coarse
    x = field(dims, 8) * seen
    after = seen if stride == 1 else seen[(..., *(slice(None, None, 2),) * dims)]
    got = ConvBlock(dims, 8, 16, stride)(x, after)
    assert got.shape == (2, 16, *after.shape[2:])
    assert not got[(after == 0).expand_as(got)].any()
    assert got[(after == 1).expand_as(got)].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_keeps_values_and_changes_layout(channels: int):
    for dims in (2, 3):
        x = field(dims, channels)
        y = channels_last(x)
        assert torch.equal(x, y)
        assert y.stride(1) == 1
        assert y.stride(-1) == channels


def test_visible_at_refuses_cells_that_do_not_fit():
    with pytest.raises(ValueError, match="total stride"):
        visible_at(torch.ones(1, 1, 7, 7, dtype=torch.bool), (4, 4), torch.float32)
