from __future__ import annotations

import pytest
import torch
from method_cases import ENCODERS

from medssl.methods.corruption import Corruption, CorruptionConfig
from medssl.networks import build_encoder
from medssl.views import Draw, sample_key

ENCODER = build_encoder("unet", 2, 1, **ENCODERS["unet"])  # of stride 4


def draw(n: int) -> Draw:
    return Draw(torch.tensor([sample_key(1, 0, index) for index in range(n)]))


def numbered(n: int) -> torch.Tensor:
    """Images of one value each, so that one sees where a voxel comes from."""
    return torch.arange(float(n)).reshape(n, 1, 1, 1).expand(n, 1, 40, 40).clone()


def test_each_sample_gets_noise_or_another_image_over_its_share():
    image = numbered(200)
    image[:, :, 0, 0] += 0.5  # a spread, for the noise
    given, mask = Corruption(CorruptionConfig(), ENCODER, (40, 40)).apply(image, draw(200))
    assert torch.equal(given[~mask], image[~mask])
    share = mask.flatten(1).float().mean(1)
    noisy = 0
    for b in range(200):
        if given[b][mask[b]].unique().numel() > 2:  # the other image has two values
            noisy += 1
            assert 0.495 <= share[b] <= 0.755
        else:
            assert share[b] == pytest.approx(0.3)
            assert given[b][mask[b]].round().ne(b).all()
    assert abs(noisy - 100) < 5 * 50**0.5
    cells = mask[:, 0].reshape(200, 10, 4, 10, 4)
    assert torch.equal(cells.any(4).any(2), cells.all(4).all(2))  # whole cells


def test_a_sample_alone_gets_noise():
    image = torch.randn(1, 1, 16, 16)
    config = CorruptionConfig(noise_share=0.0)
    given, mask = Corruption(config, ENCODER, (16, 16)).apply(image, draw(1))
    assert mask.float().mean() >= 0.5
    assert (given != image)[mask].all()
