from __future__ import annotations

import itertools

import pytest
import torch
from monai.networks.nets.swin_unetr import compute_mask
from torch import Tensor

from medssl.networks import Swin
from medssl.networks.swin import SwinBlock, window_regions


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_are_monais_where_they_divide_the_maps(dims: int):
    # MONAI's blocks, merging and mask; its whole SwinTransformer cannot run without einops.
    ours = Swin(dims, 2, 2, 8, depths=(2, 2, 1), heads=(1, 2, 4), window=2).double()
    x = torch.randn(1, 2, *(16, 32, 16)[:dims], dtype=torch.float64)
    with torch.no_grad():
        y = ours.embed(x).movedim(1, -1)
        for stage, feature in zip(ours.stages, ours(x), strict=True):
            y = stage.merge(y)  # type: ignore[operator]
            mask = compute_mask(list(y.shape[1:-1]), (2,) * dims, (1,) * dims, "cpu")
            for block in stage.blocks:  # type: ignore[union-attr]
                y = block.block(y, mask)
            expected = torch.nn.functional.layer_norm(y, y.shape[-1:]).movedim(-1, 1)
            torch.testing.assert_close(feature, expected, rtol=1e-7, atol=1e-9)


def slow_attention(block: SwinBlock, x: Tensor) -> Tensor:
    """Of every cell to the cells of its own window, one by one; x (*grid, width)."""
    attn, window = block.block.attn, block.window
    grid, width = x.shape[:-1], x.shape[-1]
    shift = [block.shift if n > window else 0 for n in grid]
    cells = list(itertools.product(*(range(n) for n in grid)))
    qkv = attn.qkv(x).reshape(*grid, 3, attn.num_heads, -1)
    out = torch.zeros_like(x)
    for at in cells:
        home = [(a - s) // window for a, s in zip(at, shift, strict=True)]
        others = [
            c for c in cells if [(a - s) // window for a, s in zip(c, shift, strict=True)] == home
        ]
        heads = []
        for head in range(attn.num_heads):
            weights = []
            for other in others:
                row = 0
                for a, b in zip(at, other, strict=True):
                    row = row * (2 * window - 1) + a - b + window - 1
                score = qkv[at][0, head] @ qkv[other][1, head] * attn.scale
                weights.append(score + attn.relative_position_bias_table[row, head])
            share = torch.stack(weights).softmax(0)
            heads.append(sum(w * qkv[o][2, head] for w, o in zip(share, others, strict=True)))
        out[at] = attn.proj(torch.cat(heads).reshape(width))
    return out


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("grid", [(6, 6), (7, 4), (2, 5), (2, 3, 4)])
def test_attention_stays_in_windows_and_out_of_padding(grid: tuple[int, ...], shift: int):
    """Also where a window does not divide the grid, or is larger: positions are right there."""
    torch.manual_seed(0)
    block = SwinBlock(len(grid), 4, 2, 3, shift).double()
    torch.nn.init.normal_(block.block.attn.relative_position_bias_table)
    x = torch.randn(*grid, 4, dtype=torch.float64)
    with torch.no_grad():
        got = block._attend(x.movedim(-1, 0)[None])[0].movedim(0, -1)
        torch.testing.assert_close(got, slow_attention(block, x))


def test_whole_windows_need_no_regions():
    place = torch.device("cpu")
    assert window_regions((6, 3), 3, (0, 0), place) is None
    regions = window_regions((4, 3), 3, (0, 0), place)
    assert regions is not None
    assert regions.tolist() == [[0] * 9, [0] * 3 + [-1] * 6]


def test_the_names_of_weights_stay_what_bundles_hold():
    names = set(Swin(2, 1, 2, 8, depths=(1, 1), heads=(1, 1), window=2).state_dict())
    attn = ("relative_position_bias_table", "qkv.weight", "proj.weight")
    expected = {f"stages.0.blocks.0.block.attn.{part}" for part in attn}
    expected |= {"embed.proj.weight", "stages.1.merge.reduction.weight"}
    assert expected <= names
    assert not [name for name in names if "index" in name]
