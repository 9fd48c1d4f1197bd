from __future__ import annotations

import pytest
import torch
from monai.networks.nets import mednext
from torch import Tensor

from medssl.networks import MedNeXt


@pytest.mark.parametrize("dims", [2, 3])
def test_it_is_the_encoder_of_monais_mednext(dims: int):
    ours = MedNeXt(dims, 2, 4, blocks=(1, 2, 1), expansion=(2, 3, 4), kernel=5)
    theirs = mednext.MedNeXt(
        dims, 4, 2, kernel_size=5, use_residual_connection=True, blocks_down=(1, 2),
        blocks_bottleneck=1, blocks_up=(1, 1), encoder_expansion_ratio=(2, 3),
        decoder_expansion_ratio=(2, 2), bottleneck_expansion_ratio=4,
    )  # fmt: skip
    ours.stem.load_state_dict(theirs.stem.state_dict())
    stages = [*theirs.enc_stages, theirs.bottleneck]
    for level, stage in enumerate(stages):
        blocks = [*([theirs.down_blocks[level - 1]] if level else []), *stage]
        for mine, block in zip(ours.levels[level], blocks, strict=True):  # type: ignore[arg-type]
            mine.block.load_state_dict(block.state_dict())
    maps: list[Tensor] = []
    for stage in stages:
        stage.register_forward_hook(lambda _, __, out: maps.append(out))
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(1, 2, *(24, 16, 28)[:dims], dtype=torch.float64)
    with torch.no_grad():
        theirs(x)
        for mine, expected in zip(ours(x), maps, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-7, atol=1e-9)


def test_the_names_of_weights_stay_what_bundles_hold():
    names = {f"levels.0.0.block.{part}.weight" for part in ("conv1", "norm", "conv2", "conv3")}
    names |= {"stem.weight", "levels.1.0.block.res_conv.weight"}
    assert names <= set(MedNeXt(2, 1, 4, blocks=(1, 1)).state_dict())
