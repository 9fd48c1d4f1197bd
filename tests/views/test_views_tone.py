from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from medssl.views import sample_key
from medssl.views.tone import Tone, bend


def image(dims: int, n: int = 2) -> Tensor:
    shape = (n, 2, 12, 10) if dims == 2 else (n, 2, 12, 10, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1


def nothing(n: int) -> Tone:
    keys = torch.tensor([sample_key(3, 0, index) for index in range(n)])
    return Tone(None, None, None, torch.zeros(n, dtype=torch.bool), None, keys, 7, False)


@pytest.mark.parametrize("dims", [2, 3])
def test_neutral_values_return_the_input(dims: int):
    x = image(dims)
    assert nothing(2).apply(x, None) is x
    one, zero = torch.ones(2), torch.zeros(2)
    params = replace(nothing(2), contrast=one, brightness=zero, gamma=one, noise=zero)
    assert torch.equal(params.apply(x, None), x)


@pytest.mark.parametrize("dims", [2, 3])
def test_contrast_and_brightness_by_hand(dims: int):
    x = image(dims)
    params = replace(
        nothing(2), contrast=torch.tensor([2.0, 0.5]), brightness=torch.tensor([0.0, 1.0])
    )
    got = params.apply(x.clone(), None)
    for b, (factor, shift) in enumerate([(2.0, 0.0), (0.5, 1.0)]):
        for c in range(2):
            part = x[b, c]
            std = part.std(correction=0)
            expected = (part - part.mean()) * factor + part.mean() + shift * std
            torch.testing.assert_close(got[b, c], expected, rtol=0, atol=1e-5)


def test_gamma_keeps_the_range_and_bends_it():
    x = torch.linspace(-1, 3, 5).reshape(1, 1, 1, 5).expand(2, 1, 1, 5)
    got = bend(x, torch.tensor([2.0, 2.0]), torch.tensor([False, True]))
    torch.testing.assert_close(got[0, 0, 0], torch.tensor([-1.0, -0.75, 0.0, 1.25, 3.0]))
    # Inverted: what is 1/4 below the top is bent as what is 1/4 above the bottom.
    torch.testing.assert_close(got[1, 0, 0], torch.tensor([-1.0, 0.75, 2.0, 2.75, 3.0]))
    flat = torch.full((1, 1, 4, 4), 2.0)
    assert torch.equal(bend(flat, torch.tensor([0.5]), torch.tensor([True])), flat)


def test_only_the_picked_samples_are_bent():
    x = image(2, n=3)
    gamma, inverted = torch.tensor([1.0, 0.7, 1.0]), torch.tensor([True, True, False])
    got = replace(nothing(3), gamma=gamma, inverted=inverted).apply(x.clone(), None)
    assert torch.equal(got[[0, 2]], x[[0, 2]])
    torch.testing.assert_close(got[1], bend(x, gamma, inverted)[1])


def test_noise_has_the_asked_spread_and_is_repeatable():
    x = image(3)
    params = replace(nothing(2), noise=torch.tensor([0.5, 0.0]))
    got = params.apply(x.clone(), None)
    assert torch.equal(got, params.apply(x.clone(), None))
    assert torch.equal(got[1], x[1])
    for c in range(2):
        noise = (got - x)[0, c].flatten() / x[0, c].std(correction=0) / 0.5
        assert stats.kstest(noise.numpy(), "norm").pvalue > 1e-3
    # In brightness and noise alike, the deviation is the one before contrast.
    doubled = replace(params, contrast=torch.tensor([2.0, 2.0])).apply(x.clone(), None)
    mean = x.mean((2, 3, 4), keepdim=True)
    torch.testing.assert_close(doubled - (x * 2 - mean), got - x, rtol=0, atol=1e-4)


def test_rician_noise_follows_its_law():
    # Half air, half tissue: in air a magnitude image has Rayleigh noise, never below zero.
    x = torch.full((1, 1, 40, 40, 20), -1.0)
    x[..., 20:, :] = 3.0
    params = replace(nothing(1), noise=torch.tensor([0.4]), rician=True)
    got, sigma = params.apply(x.clone(), None) + 1.0, 0.4 * 2.0  # the image's deviation is 2
    air, tissue = got[..., :20, :].flatten().numpy(), got[..., 20:, :].flatten().numpy()
    assert float(air.min()) >= 0
    assert stats.kstest(air / sigma, "rayleigh").pvalue > 1e-3
    assert stats.kstest(tissue / sigma, "rice", args=(4.0 / sigma,)).pvalue > 1e-3
