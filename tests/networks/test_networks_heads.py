from __future__ import annotations

import pytest
import torch

from medssl.networks import PatchHead, UNetEncoder


@pytest.mark.parametrize("dims", [2, 3])
def test_every_place_of_the_deepest_map_predicts_its_own_patch(dims: int):
    encoder = UNetEncoder(dims, 2, widths=(4, 8, 8))  # of stride 4
    head = PatchHead(encoder, channels=3, cell=2)
    features = encoder(torch.randn(2, 2, *(8, 12, 4)[:dims]))
    before = head(features)
    assert before.shape == (2, 3, *(4, 6, 2)[:dims])
    features[-1] = features[-1].detach().clone()
    features[-1][(1, slice(None), 1, 2)] += 1
    differs = (head(features) != before).any(1)
    assert not differs[0].any()
    assert differs[1, 2:, 4:].all()
    assert differs[1].sum() == differs[1, 2:, 4:].numel()


def test_the_image_itself_by_default():
    encoder = UNetEncoder(2, 2, widths=(4, 8))
    assert PatchHead(encoder)(encoder(torch.randn(1, 2, 6, 4))).shape == (1, 2, 6, 4)
    with pytest.raises(ValueError, match="do not divide"):
        PatchHead(encoder, cell=4)
