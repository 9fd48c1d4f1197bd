from __future__ import annotations

import torch
from scipy import stats

from medssl.views import Draw, corrupt, random_mask, sample_key, upsample_mask


def draw(n: int) -> Draw:
    return Draw(torch.tensor([sample_key(1, 0, index) for index in range(n)]))


def test_what_is_masked_becomes_another_image_or_noise():
    n = 40
    # Each image has a value of its own, so that one sees where a voxel comes from.
    x = torch.arange(float(n)).reshape(n, 1, 1, 1).expand(n, 2, 16, 16).clone()
    x[:, 1] *= -1
    mask = upsample_mask(random_mask(draw(n), (4, 4), 0.5), (16, 16))
    got = corrupt(x, mask, draw(n).fork(3), noise_share=0.0)
    assert torch.equal(got[~mask.expand_as(x)], x[~mask.expand_as(x)])
    for b in range(n):
        foreign = got[b, 0][mask[b, 0]].unique()
        assert len(foreign) == 1
        assert float(foreign) != b
        assert torch.equal(got[b, 1][mask[b, 0]], -got[b, 0][mask[b, 0]])
    assert torch.equal(corrupt(x, mask, draw(n).fork(3), noise_share=0.0), got)


def test_noise_has_mean_and_spread_of_the_channel():
    x = torch.randn(3, 2, 64, 64, generator=torch.Generator().manual_seed(0)) * 3 + 5
    mask = torch.ones(3, 1, 64, 64, dtype=torch.bool)
    got = corrupt(x, mask, draw(3), noise_share=1.0)
    for b in range(3):
        for c in range(2):
            part = x[b, c]
            noise = (got[b, c] - part.mean()) / part.std(correction=0)
            assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3


def test_the_share_that_gets_noise():
    x = torch.arange(400.0).reshape(400, 1, 1, 1).expand(400, 1, 4, 4).clone()
    x[..., 0] += 1.0
    mask = torch.ones(400, 1, 4, 4, dtype=torch.bool)
    got = corrupt(x, mask, draw(400), noise_share=0.3)
    copied = (got[..., 0] - got[..., 1] == 1.0).flatten(1).all(1)
    assert abs(float(copied.float().mean()) - 0.7) < 5 * (0.21 / 400) ** 0.5


def test_what_replaces_which_image_may_be_decided_before():
    x, other = torch.zeros(3, 1, 4, 4), torch.full((3, 1, 4, 4), 7.0)
    x[:, :, 0] = 1.0
    mask = torch.ones(3, 1, 4, 4, dtype=torch.bool)
    noisy = torch.tensor([True, False, True])
    got = corrupt(x, mask, draw(3), noisy=noisy, other=other)
    assert (got[1] == 7).all()
    assert not (got[0] == 7).any()
    assert torch.equal(got[2], corrupt(x, mask, draw(3), noise_share=1.0)[2])
